# planish: `make demo` and `make test` do everything, set-up included.
#
# The virtual environment .venv is made on demand from requirements.lock. Needed beforehand: Python >= 3.11 with its venv
# module, and a C compiler (planish links what it compiles with `cc`).
#
#   make demo PYTHON=python3.12     choose the Python
#   make test JOBS=4                number of test processes
#   make test T="tests/test_cli.py -k bench"

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV   ?= .venv
JOBS   ?= 2
T      ?=
B      ?=
PYTHON ?=
READY  := $(VENV)/.ready
BIN    := $(VENV)/bin
MINDSPORE ?= $(CURDIR)/.venv-mindspore
MODELS ?= $(CURDIR)/.venv-models

.PHONY: help demo test test-mindspore test-models conformance mindir bench accuracy lint format types lock wheel links clean compiler

help:
	@echo "make demo    compile a trained digit classifier into one executable and run it on pictures"
	@echo "make test    lint, types and the whole test suite (T=... selects tests, JOBS=... processes)"
	@echo "make test-mindspore  MindIR files that planish writes, run by MindSpore (its own environment, 2.8 GB)"
	@echo "make test-models  models of PyTorch and transformers against these (their own environment, 6 GB)"
	@echo "make bench   the table of docs/BENCHMARKS.md for the models in PLANISH_ZOO (B=... options; hours)"
	@echo "make accuracy  outputs of the models in PLANISH_ZOO against the stored ones (A=... names; an hour)"
	@echo "make conformance  all of ONNX's own backend tests; writes docs/COVERAGE.md"
	@echo "make mindir  MindSpore's samples against its own outputs; writes docs/MINDIR.md"
	@echo "make lint    ruff and pyright"
	@echo "make format  rewrite the tree with ruff format and ruff check --fix"
	@echo "make wheel   dist/*.whl and dist/*.tar.gz"
	@echo "make lock    renew requirements.lock"
	@echo "make links   renew .links after adding a file to driver/"
	@echo "make clean   remove what was built, .venv included"

demo: $(READY) compiler
	@$(BIN)/python examples/digits/demo.py

test: $(READY) compiler lint
	@$(BIN)/python -m pytest -q -n $(JOBS) $(T)

test-mindspore: $(READY) $(MINDSPORE)/.locked
	@PLANISH_MINDSPORE=$(MINDSPORE)/bin/python $(BIN)/python -m pytest -q -m mindspore $(T)

test-models: $(MODELS)/.locked compiler
	@$(MODELS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@$(MODELS)/bin/python -m pytest -q -m models $(T)

bench: $(READY) compiler
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[bench]'
	@$(BIN)/python -m benchmarks $(B)

accuracy: $(READY) compiler
	@$(BIN)/python -m benchmarks.accuracy $(A)

conformance: $(READY) compiler
	@PYTHONPATH=tests $(BIN)/python -m conformance.run --jobs $(JOBS) --report docs/COVERAGE.md

mindir: $(READY) compiler
	@$(BIN)/python -m benchmarks.mindir --report docs/MINDIR.md

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "make: some files are not formatted: run 'make format'" >&2; exit 1; }
	@$(BIN)/pyright --pythonpath $(BIN)/python

format: $(READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

wheel: $(READY)
	@rm -rf build dist
	@$(BIN)/python -m build --outdir dist .

lock:
	@scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	python3 -m venv "$$scratch/v"; \
	"$$scratch/v/bin/pip" install --quiet --upgrade pip; \
	"$$scratch/v/bin/pip" install --quiet setuptools '.[dev]'; \
	{ head -n 1 requirements.lock; "$$scratch/v/bin/pip" freeze --all | grep -Ev '^(pip|planish)( |=)'; } > "$$scratch/lock"; \
	mv "$$scratch/lock" requirements.lock

# What pyright needs to see the package as it is installed; tests/test_structure.py tells when a link is missing.
links:
	@rm -rf .links/planish && mkdir -p .links/planish
	@for folder in codegen frontend ir passes runtime writers; do ln -s ../../$$folder .links/planish/$$folder; done
	@for file in $$(ls driver | grep -v __pycache__); do ln -s ../../driver/$$file .links/planish/$$file; done

clean:
	rm -rf $(VENV) $(MINDSPORE) build dist planish.egg-info .pytest_cache .ruff_cache .hypothesis examples/*/build

# Each step is done only once its stamp is there: an interrupted set-up starts again.
$(READY): $(VENV)/.locked pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.locked: requirements.lock
	@python=$$(PYTHON="$(PYTHON)" sh .ci/find-python); \
	echo "make: setting up $(VENV) with $$python (once)"; \
	rm -rf $(VENV); \
	"$$python" -m venv $(VENV) || { echo "make: $$python cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock; \
	touch $@

$(MINDSPORE)/.locked: requirements-mindspore.lock
	@python=$$(PYTHON="$(PYTHON)" sh .ci/find-python); \
	echo "make: setting up $(MINDSPORE) with $$python (once, 2.8 GB)"; \
	rm -rf $(MINDSPORE); \
	"$$python" -m venv $(MINDSPORE); \
	$(MINDSPORE)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements-mindspore.lock; \
	touch $@

$(MODELS)/.locked: requirements-models.lock
	@python=$$(PYTHON="$(PYTHON)" sh .ci/find-python); \
	echo "make: setting up $(MODELS) with $$python (once, 6 GB)"; \
	rm -rf $(MODELS); \
	"$$python" -m venv $(MODELS); \
	$(MODELS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements-models.lock; \
	touch $@

compiler:
	@command -v "$${CC:-cc}" >/dev/null || { echo "make: no C compiler: '$${CC:-cc}' is not on the PATH; install gcc or clang, or set CC" >&2; exit 1; }
