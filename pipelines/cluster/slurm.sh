#!/bin/bash
# Purpose: vxp-data prune on the machines of a Slurm job. Stopped or preempted, it goes on.
# Input: MANIFEST, MEDIA_ROOT and OUT, on a file system that all machines share; RECIPE if not ours.
# Hardware: 4 machines with 4 GPUs each; a GPU takes one core, all other cores decode.
# Time: see "What it costs" in README.md.
# Why these values: one Ray node a machine, with the cores and GPUs that Slurm gives it.
#SBATCH --job-name=vxp-prune
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=64
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail
: "${MANIFEST:?the annotation file}" "${MEDIA_ROOT:?the folder of videos}" "${OUT:?the run directory}"
recipe=${RECIPE:-pipelines/prune.yaml}

export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="$HOME/.vxp-ray-token-$SLURM_JOB_ID"
(umask 077; python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH")
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT

mapfile -t machines < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${machines[0]}
ip=$(srun --nodes=1 --ntasks=1 --overlap -w "$head" hostname --ip-address | awk '{print $1}')
address=$ip:$((20000 + SLURM_JOB_ID % 20000))
each="--num-cpus=$SLURM_CPUS_PER_TASK --num-gpus=${SLURM_GPUS_ON_NODE:-0} --disable-usage-stats --block"

srun --nodes=1 --ntasks=1 --overlap -w "$head" \
    ray start --head --node-ip-address="$ip" --port="${address#*:}" --include-dashboard=false $each &
for machine in "${machines[@]:1}"; do
    srun --nodes=1 --ntasks=1 --overlap -w "$machine" ray start --address="$address" $each &
done
python pipelines/cluster/wait_for_nodes.py "$address" "${#machines[@]}"

vxp-data prune "$MANIFEST" --media-root "$MEDIA_ROOT" --recipe "$recipe" --out "$OUT" --address "$address"
