# make demo, make test, make bench, make tables: each sets up .venv first, once.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test lint bench tables clean

demo: $(INSTALLED)
	@$(BIN)/python -m scripts.demo

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.recurrent
	$(BIN)/python -m benchmarks.start_up
	$(BIN)/python -m benchmarks.captioning
	$(BIN)/python -m benchmarks.notes
	$(BIN)/python -m scripts.tables

# Rewrites the tables of README.md from results/ and benchmarks/results/.
tables: $(INSTALLED)
	$(BIN)/python -m scripts.tables

$(INSTALLED): pyproject.toml constraints.txt scripts/set_up.sh
	@PYTHON=$(PYTHON) bash scripts/set_up.sh

clean:
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache
