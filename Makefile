# Two commands do everything: `make run` and `make test`. Each builds the environment if it is missing.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The CPU build of torch comes from wherever the installer is configured to look; where that has none,
# from PyTorch's own index.
TORCH := $(shell sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements.lock)
TORCH_INDEX := https://download.pytorch.org/whl/cpu
RUN_NAME ?= arithmetic-full-step-dpo-$(shell date +%Y%m%d-%H%M%S)

.PHONY: setup run test test-slow test-gpu lint bench faults lock clean

setup: .venv/installed

.venv/installed: requirements.lock requirements-build.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else f"requirements.lock is for Python 3.11, and $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=/path/to/python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(PIP) install -q --no-deps --require-hashes -r requirements-build.lock
	@if ! $(PIP) install -q --dry-run --no-deps $(TORCH) 2>/dev/null; then \
	    echo "$(TORCH) is not offered by this installer's configuration; using $(TORCH_INDEX)"; \
	    echo "$(TORCH_INDEX)" > .venv/torch-index; fi
	$(PIP) install -q --no-deps --require-hashes --no-build-isolation -r requirements.lock \
	    $$(test ! -f .venv/torch-index || echo --extra-index-url "$$(cat .venv/torch-index)")
	$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

run: setup
	$(BIN)/rlstep train recipes/arithmetic_full_step_dpo.py --name $(RUN_NAME)

test: setup
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder -m "not slow and not gpu"

test-slow: setup
	$(BIN)/python -m pytest -m slow

test-gpu: setup
	$(BIN)/python -m pytest -m gpu

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

faults: setup
	$(BIN)/python -m tests.faults.nemesis
	$(BIN)/python -m tests.faults.useful_time
	$(BIN)/python -m tests.faults.guards

bench: setup
	$(BIN)/python tests/bench/generator.py
	$(BIN)/python tests/bench/learner.py
	$(BIN)/python tests/bench/losses.py
	$(BIN)/python tests/bench/head_memory.py
	$(BIN)/python tests/bench/shared_prefixes.py
	$(BIN)/python tests/bench/verifier.py
	$(BIN)/python tests/bench/labels.py
	$(BIN)/python tests/bench/turn_overhead.py
	PYTHONPATH=. $(BIN)/python tests/bench/conversation.py
	PYTHONPATH=. $(BIN)/python tests/bench/sinks.py
	PYTHONPATH=. $(BIN)/python tests/bench/optimizers.py
	PYTHONPATH=. $(BIN)/python tests/bench/aggregation.py
	PYTHONPATH=. $(BIN)/python tests/bench/evaluate.py
	$(BIN)/python tests/bench/sync.py
	$(BIN)/python tests/bench/statistics_cost.py
	PYTHONPATH=. $(BIN)/python tests/bench/log_partition.py

# Needs `uv` (any recent one), which is not part of the environment.
lock:
	uv pip compile requirements.in --override requirements-override.in --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 \
	    --python-platform x86_64-manylinux_2_31 -o requirements.lock
	$(PYTHON) -c 'import re; t = open("requirements.lock").read(); open("requirements-build.lock", "w").write("".join(b.rstrip() + "\n" for b in re.split(r"\n(?=[a-zA-Z0-9])", t) if re.match(r"(setuptools|wheel|packaging)==", b)))'

clean:
	rm -rf .venv
