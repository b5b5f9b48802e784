# Every target makes .venv by itself; nothing is installed outside of it. Python 3.11 or newer: make PYTHON=python3.12 ...
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: help demo test lint bench clean
.DELETE_ON_ERROR:

help:
	@echo "make demo   train, evaluate and predict on built-in scans, with a table and a figure"
	@echo "make test   lint, then all tests"
	@echo "make lint   ruff and import-linter"
	@echo "make bench  time of a training step; lists the other benchmarks"
	@echo "make clean  remove .venv and caches; models and runs stay"

demo: $(READY)
	$(BIN)/python -m medssl_components demo

test: lint
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --config setup.cfg

bench: $(READY)
	@echo "benchmarks:" && ls benchmarks/*.py
	$(BIN)/python benchmarks/speed.py

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache build *.egg-info
	find medssl_components tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.txt requirements-dev.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=...')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
