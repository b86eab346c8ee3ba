# make demo, make test, make test-cluster, make bench, make tables: each sets up .venv first, once.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test test-cluster lint bench tables clean

demo: $(INSTALLED)
	@$(BIN)/python -m scripts.demo

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Real Slurm, two nodes on this machine (root), and torchrun.
test-cluster: $(INSTALLED)
	@bash scripts/set_up_slurm.sh
	UNROLL_CLUSTER=1 $(BIN)/python -m pytest -n 0 tests/cluster

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.recurrent
	$(BIN)/python -m benchmarks.start_up
	$(BIN)/python -m benchmarks.captioning
	$(BIN)/python -m benchmarks.processes
	$(BIN)/python -m benchmarks.video
	$(BIN)/python -m benchmarks.notes
	$(BIN)/python -m benchmarks.soak --kills 40
	$(BIN)/python -m scripts.tables

# Rewrites the tables of README.md from results/ and benchmarks/results/.
tables: $(INSTALLED)
	$(BIN)/python -m scripts.tables

$(INSTALLED): pyproject.toml constraints.txt scripts/set_up.sh
	@PYTHON=$(PYTHON) bash scripts/set_up.sh

clean:
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache
