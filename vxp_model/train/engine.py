"""DeepSpeed, as our settings ask for it: its dict is computed from them, and read back.

What was found in DeepSpeed 0.19.8 and is avoided here: unknown keys of its dict pass silently; on a
CPU it compiles a shared-memory extension at every first start, and a start killed meanwhile leaves
a lock that stops all later ones; with ZeRO-1, bf16 and fp32 accumulation the first micro-batch
counts twice unless gradients are taken over at once; its CPU Adam does not resume exactly.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from vxp_model.errors import UserError
from vxp_model.settings.recot import EngineSettings, OptimSettings
from vxp_model.train.distributed import DistributedContext

_NEVER: Final = 1 << 60
_ONE_RATE: Final[Mapping[str, float]] = {}
TAG: Final = "engine"
"""Folder of DeepSpeed's files within a checkpoint."""


def deepspeed_config(
    engine: EngineSettings,
    optim: OptimSettings,
    *,
    micro_samples: int,
    accumulation: int,
    bf16: bool,
    num_parameters: int,
) -> dict[str, Any]:
    """Compute DeepSpeed's dict.

    Args:
        engine: our settings of it.
        optim: of the optimizer; the clipping is DeepSpeed's business.
        micro_samples: samples that a process runs at once.
        accumulation: how many times, for one step.
        bf16: train bf16 weights, with an fp32 copy of them in the optimizer.
        num_parameters: that are trained; no bucket need be larger.
    """
    # DeepSpeed counts elements, our setting MiB of fp32.
    bucket = max(1, min((engine.bucket_mib << 20) // 4, num_parameters))
    zero: dict[str, Any] = {
        "stage": engine.zero_stage,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
    }
    if engine.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": micro_samples,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": optim.clip_norm,
        "bf16": {"enabled": bf16},
        "zero_optimization": zero,
        # Else it refuses to offload any optimizer but its own CPU Adam.
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": _NEVER,
    }
    if bf16 and engine.zero_stage > 0:
        # Without the second line the first micro-batch counts twice; see the module's docstring.
        config["data_types"] = {"grad_accum_dtype": "fp32"}
        config["bf16"]["immediate_grad_update"] = True
    return config


class Engine:
    """A module under DeepSpeed, with AdamW and a rate that the caller sets for each step."""

    def __init__(
        self,
        module: nn.Module,
        *,
        engine: EngineSettings,
        optim: OptimSettings,
        micro_samples: int,
        accumulation: int,
        bf16: bool,
        context: DistributedContext,
        rate_mults: Mapping[str, float] = _ONE_RATE,
    ) -> None:
        """Hand a module over to DeepSpeed, which moves and casts it.

        Args:
            module: of its parameters, those that require a gradient are trained.
            engine: see `deepspeed_config`, like the next four.
            optim: see there.
            micro_samples: see there.
            accumulation: see there.
            bf16: see there.
            context: the processes.
            rate_mults: parameters whose name begins so learn at so many times the rate.

        Raises:
            UserError: DeepSpeed's CPU Adam is asked for and cannot be built.
        """
        self._context = context
        self._plain = engine.zero_stage == 0 and not bf16  # gradients lie in the parameters
        groups, self._rate_mults = parameter_groups(
            module, weight_decay=optim.weight_decay, rate_mults=rate_mults
        )
        self._basic = _optimizer(groups, engine, optim, context)
        config = deepspeed_config(
            engine,
            optim,
            micro_samples=micro_samples,
            accumulation=accumulation,
            bf16=bf16,
            num_parameters=sum(p.numel() for p in module.parameters() if p.requires_grad),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its own use of torch
            deepspeed = import_deepspeed(context)
            self._engine: Any = deepspeed.initialize(
                model=module, optimizer=self._basic, config=config
            )[0]
        _read_back(self._engine, config)

    @property
    def module(self) -> nn.Module:
        """The module as DeepSpeed has cast and moved it."""
        module: nn.Module = self._engine.module
        return module

    def train(self) -> None:
        """Switch the module to training mode."""
        self._engine.train()

    def evaluate(self) -> None:
        """Switch the module to evaluation mode."""
        self._engine.eval()

    def forward(self, **inputs: Any) -> Any:
        """Run the module."""
        return self._engine(**inputs)

    def backward(self, loss: Tensor, *, lr: float) -> float | None:
        """Add up gradients; after the step's last micro-batch, step.

        Args:
            loss: scalar. DeepSpeed divides it by the accumulation, and the gradient by the number
                of processes.
            lr: highest rate of this step.

        Returns:
            grad_norm: before clipping; NaN when the gradient is not finite, and then the weights
            may be lost. None: more micro-batches are to come.
        """
        # Asked for first: `step` goes on to the next micro-batch.
        steps = self._engine.is_gradient_accumulation_boundary()
        for group, mult in zip(self._basic.param_groups, self._rate_mults, strict=True):
            group["lr"] = lr * mult
        self._engine.backward(loss)
        norm: Any = None
        if steps and self._plain:
            # Before `step`, which clips the gradients and then clears them.
            gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
            norm = nn.utils.get_total_norm(gradients)
        self._engine.step()
        if not steps:
            return None
        if not self._plain:
            norm = self._engine.get_global_grad_norm()
        # ZeRO says -1 for a norm that is not finite.
        value = float(norm)
        return value if math.isfinite(value) and value >= 0 else math.nan

    @torch.no_grad()
    def full_weights(self) -> dict[str, Tensor]:
        """Gather the parameters in fp32, on the CPU, in every process."""
        from deepspeed.utils import (  # type: ignore[import-untyped]
            safe_get_full_fp32_param,
        )

        masters = _unfused_masters(self._engine.optimizer)
        weights = {}
        for name, parameter in self.module.named_parameters():
            full = masters.get(parameter)
            if full is None:
                full = safe_get_full_fp32_param(parameter)
            full = parameter if full is None else full
            # A copy, or what is fp32 on a CPU already would be a view that the next step changes.
            weights[name] = full.detach().float().cpu().reshape(parameter.shape).clone()
        return weights

    def save(self, folder: Path) -> None:
        """Write DeepSpeed's files into a folder; every process calls it."""
        self._engine.save_checkpoint(str(folder), tag=TAG, save_latest=False)

    def load(self, folder: Path, *, num_steps: int) -> None:
        """Load what `save` wrote.

        Args:
            folder: as given to `save`.
            num_steps: optimizer steps done until then.
        """
        found, _ = self._engine.load_checkpoint(str(folder), tag=TAG)
        if found is None:
            raise RuntimeError(f"DeepSpeed found no checkpoint in {folder}")
        if hasattr(self._basic, "ds_opt_adam"):
            _replay(self._basic, num_steps)


def import_deepspeed(context: DistributedContext) -> Any:
    """Import DeepSpeed without its chatter and, on a CPU, without compiling anything."""
    import deepspeed  # type: ignore[import-untyped]
    import deepspeed.ops  # type: ignore[import-untyped]

    deepspeed.utils.logger.setLevel(logging.WARNING)
    if context.device.type == "cpu":
        deepspeed.ops.__compatible_ops__ = defaultdict(bool)
    return deepspeed


def parameter_groups(
    module: nn.Module, *, weight_decay: float, rate_mults: Mapping[str, float]
) -> tuple[list[dict[str, Any]], list[float]]:
    """Split the parameters that are trained by decay and rate.

    Args:
        module: whose parameters.
        weight_decay: of kernels and matrices; biases, norms, codes and queries have none.
        rate_mults: beginning of a parameter's name -> its rate, against the highest; else 1.

    Returns:
        groups: as torch's optimizers take them, none of them empty.
        mults: each group's rate, against the highest.

    Raises:
        ValueError: no parameter's name begins so.
    """
    parts: dict[tuple[float, float], list[nn.Parameter]] = {}
    unused = set(rate_mults)
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        prefix = next((prefix for prefix in rate_mults if name.startswith(prefix)), None)
        unused.discard(prefix or "")
        mult = 1.0 if prefix is None else rate_mults[prefix]
        decays = name.endswith(".weight") and parameter.ndim >= 2
        parts.setdefault((weight_decay if decays else 0.0, mult), []).append(parameter)
    if unused:
        raise ValueError(f"nothing that is trained has a name that begins with {sorted(unused)}")
    groups = [{"params": group, "weight_decay": decay} for (decay, _), group in parts.items()]
    return groups, [mult for _, mult in parts]


def _optimizer(
    groups: list[dict[str, Any]],
    engine: EngineSettings,
    optim: OptimSettings,
    context: DistributedContext,
) -> Any:
    settings: dict[str, Any] = {"lr": optim.lr, "betas": optim.betas, "eps": optim.eps}
    if engine.offload != "deepspeed":
        # Else, of what ZeRO has flattened, a step makes two copies; and a CPU takes nine times as
        # long.
        return torch.optim.AdamW(groups, fused=True, **settings)
    import_deepspeed(context)
    from deepspeed.ops.adam import DeepSpeedCPUAdam  # type: ignore[import-untyped]

    try:
        return DeepSpeedCPUAdam(groups, adamw_mode=True, **settings)
    except Exception as error:
        raise UserError(
            f"DeepSpeed's CPU Adam cannot be built ({type(error).__name__}: {error}). It needs a "
            "C++ compiler and ninja; or set engine.offload=torch."
        ) from error


def _read_back(engine: Any, config: dict[str, Any]) -> None:
    """Check that DeepSpeed understood its dict: a misspelt key would pass silently."""
    zero = config["zero_optimization"]
    wanted = {
        "micro batch": (
            engine.train_micro_batch_size_per_gpu(),
            config["train_micro_batch_size_per_gpu"],
        ),
        "accumulation": (
            engine.gradient_accumulation_steps(),
            config["gradient_accumulation_steps"],
        ),
        "clipping": (engine.gradient_clipping(), config["gradient_clipping"]),
        "ZeRO stage": (int(engine.zero_optimization_stage()), zero["stage"]),
        "bf16": (engine.bfloat16_enabled(), config["bf16"]["enabled"]),
        "offload": (bool(engine.zero_use_cpu_optimizer()), "offload_optimizer" in zero),
        "rate": (engine.lr_scheduler, None),
    }
    wrong = {name: pair for name, pair in wanted.items() if pair[0] != pair[1]}
    if wrong:
        raise RuntimeError(f"DeepSpeed did not take over (got, wanted): {wrong}")


def _unfused_masters(optimizer: Any) -> dict[nn.Parameter, Tensor]:
    """Find the fp32 copies that bf16 without ZeRO keeps."""
    if not hasattr(optimizer, "fp32_groups"):
        return {}
    return {
        low: full
        for lows, fulls in zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True)
        for low, full in zip(lows, fulls, strict=True)
    }


def _replay(adam: Any, num_steps: int) -> None:
    """Count DeepSpeed's CPU Adam up to where it was, on a weight of its own.

    It keeps the running products of the betas in C++, where no checkpoint reaches them. After a
    load it would compute them anew as powers, which differ in their last bits.
    """
    group = adam.param_groups[0]
    beta1, beta2 = group["betas"]
    weight, gradient, mean, square = (torch.zeros(1) for _ in range(4))
    for step in range(1, num_steps + 1):
        adam.ds_opt_adam.adam_update(
            adam.opt_id, step, 0.0, beta1, beta2, group["eps"], 0.0, group["bias_correction"],
            weight, gradient, mean, square,
        )  # fmt: skip
