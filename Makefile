# Everything runs inside .venv; `make setup` fills it from requirements.lock.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup
UV := $(BIN)/uv
# Videos for `make demo`, `make bench` and `make fuzz`: VIDEOS=DIR; for the last two else VXP_CORPUS.
BENCH_VIDEOS = $(or $(VIDEOS),$(if $(VXP_CORPUS),$(VXP_CORPUS)/real))
FUZZ_VIDEOS = $(or $(VIDEOS),$(VXP_CORPUS))
# As pytest has it: helpers of tests and scripts are imported by name.
TESTS_PATH := tests:pipelines:pipelines/bench:pipelines/scorers

.PHONY: help setup demo pipeline test test-slow check docs bench code-facts readme-table chaos fuzz gpu-test schemas lock clean

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: $(STAMP) ## make .venv and install the locked packages and this project

demo: $(STAMP) ## prune and shard a few videos on this machine; VIDEOS=DIR for your own
	$(BIN)/python pipelines/demo.py $(if $(VIDEOS),--videos "$(VIDEOS)")

pipeline: $(STAMP) ## raw clips to a trained model that answers, tiny: minutes on 2 cores
	$(BIN)/python pipelines/pipeline.py

test: $(STAMP) ## run the tests that need neither minutes nor a GPU
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(STAMP) ## run the tests that take minutes or gigabytes
	$(BIN)/pytest -m slow

check: $(STAMP) ## lint, formatting, types, and that docs/ can be built
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(MAKE) docs

docs: $(STAMP) ## build the pages of docs/ into build/docs; a warning is an error
	$(BIN)/sphinx-build --fail-on-warning --quiet -b html docs build/docs

bench: $(STAMP) ## time every part, and prune beside other tools; needs VIDEOS=DIR or VXP_CORPUS
	@test -n "$(BENCH_VIDEOS)" || { echo 'error: no videos to time. Run: make bench VIDEOS=DIR (or set VXP_CORPUS=DIR).' >&2; exit 2; }
	$(BIN)/python pipelines/bench/decode.py "$(BENCH_VIDEOS)"
	$(BIN)/python pipelines/bench/prune.py
	$(BIN)/python pipelines/bench/prune.py --videos "$(BENCH_VIDEOS)"
	$(BIN)/python pipelines/bench/shards.py "$(BENCH_VIDEOS)"
	$(BIN)/python pipelines/bench/loader.py "$(BENCH_VIDEOS)"
	$(BIN)/python pipelines/bench/scores.py
	$(BIN)/python pipelines/bench/scaling.py --videos "$(BENCH_VIDEOS)"
	$(BIN)/python pipelines/bench/side_by_side.py "$(BENCH_VIDEOS)"

code-facts: $(STAMP) ## count how the code is built; AT=COMMIT puts that commit beside it
	$(BIN)/python pipelines/code_facts.py $(if $(AT),--at "$(AT)")

readme-table: $(STAMP) ## write the tables of run records and filters into docs/
	$(BIN)/python pipelines/readme_table.py

fuzz: $(STAMP) ## read N=2000 damaged media, manifests and shards; needs VIDEOS=DIR or VXP_CORPUS
	@test -n "$(FUZZ_VIDEOS)" || { echo 'error: no videos to damage. Run: make fuzz VIDEOS=DIR (or set VXP_CORPUS=DIR).' >&2; exit 2; }
	PYTHONPATH=$(TESTS_PATH) $(BIN)/python -m support.fuzz "$(FUZZ_VIDEOS)" -n $(or $(N),2000) --out manifests/runs/fuzz.json

chaos: $(STAMP) ## kill prune N=25 times on each engine, replace machines in RUNS=3, write the record
	PYTHONPATH=$(TESTS_PATH) $(BIN)/python -m support.chaos --kills $(or $(N),25) $(if $(APPEND),--append)
	PYTHONPATH=$(TESTS_PATH) $(BIN)/python -m support.chaos_cluster --runs $(or $(RUNS),3)

# PYTHON=python3 takes an image's own packages instead of .venv; see tests/gpu/conftest.py.
gpu-test: $(if $(PYTHON),,$(STAMP)) ## run the GPU tests, write their record; fails without a CUDA device
	VXP_REQUIRE_CUDA=1 VXP_GPU_RECORD=manifests/runs/gpu.json \
	  $(or $(PYTHON),$(BIN)/python) -m pytest -m gpu tests/gpu

schemas: $(STAMP) ## write the JSON Schemas of our records, manifests/schemas/, anew
	$(BIN)/python pipelines/make_schemas.py

lock: $(UV) ## write requirements.lock anew from pyproject.toml (newer versions: UPGRADE=1)
	$(UV) pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) --quiet -o requirements.lock

clean: ## remove .venv, caches and build folders; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# A venv made some other way, say by `uv venv`, is kept as it is and completed.
$(STAMP): requirements.lock pyproject.toml | $(UV)
	VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(UV) pip install --compile-bytecode --require-hashes -r requirements.lock
	VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(UV) pip install --no-deps -e .
	$(BIN)/python -m compileall -q vxp_data vxp_model
	@touch $@

$(UV): | $(BIN)/python
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	$(BIN)/python -m pip install --quiet 'uv>=0.9,<1'

$(BIN)/python:
	@for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  echo "$$python -m venv $(VENV)"; \
	  "$$python" -m venv $(VENV) && exit 0; \
	  rm -rf $(VENV); \
	  echo "error: $$python cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv" >&2; \
	  exit 2; \
	done; \
	echo 'error: no Python 3.11 or newer found. Install one, or name it: make setup PYTHON=/path/to/python3.11' >&2; \
	exit 2
