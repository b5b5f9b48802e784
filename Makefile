# Every target makes .venv by itself; nothing is installed outside of it. Python 3.11 or newer: make PYTHON=python3.12 ...
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
LABEL_VENV := .venv-label
LABEL_BIN := $(LABEL_VENV)/bin
LABEL_READY := $(LABEL_VENV)/ready

.PHONY: help demo test lint bench label test-label clean
.DELETE_ON_ERROR:

help:
	@echo "make demo   train, evaluate and predict on built-in scans, with a table and a figure"
	@echo "make test   lint, then all tests"
	@echo "make lint   ruff and import-linter"
	@echo "make bench  time of a training step; lists the other benchmarks"
	@echo "make label  MONAI Label with a bundle on built-in scans, in an environment of its own"
	@echo "make test-label  the tests of MONAI Label, in the same environment"
	@echo "make clean  remove the environments and caches; models and runs stay"

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

label: $(LABEL_READY)
	$(LABEL_BIN)/python label_app/start.py --bundle dbisl

test-label: $(LABEL_READY)
	$(LABEL_BIN)/python -m pytest tests/label

clean:
	rm -rf $(VENV) $(LABEL_VENV) .pytest_cache .ruff_cache .import_linter_cache build *.egg-info
	find medssl_components tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.txt requirements-dev.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=...')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

# sam2, which MONAI Label wants, comes as source: its build takes the PyTorch that is there and leaves its CUDA part out.
$(LABEL_READY): requirements-label.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=...')"
	$(PYTHON) -m venv $(LABEL_VENV)
	$(LABEL_BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 setuptools wheel
	SAM2_BUILD_CUDA=0 $(LABEL_BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps sam2==1.1.0
	$(LABEL_BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-label.txt
	touch $@
