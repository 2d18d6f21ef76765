PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench clean

demo: .venv/train.stamp  ## train, evaluate and use a VOLO on the embedded data
	$(BIN)/volo demo

test: .venv/dev.stamp  ## the default test suite
	$(BIN)/python -m pytest

lint: .venv/dev.stamp  ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/dev.stamp  ## compare the operator with unfold and fold, and images per second with timm
	$(BIN)/python benchmarks/operators.py
	$(BIN)/python benchmarks/models.py

NATIVE := CMakeLists.txt $(wildcard src/volo/ops/native/*.cpp src/volo/ops/native/*.h)

.venv/%.stamp: pyproject.toml $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
