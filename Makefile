# Every target works in a fresh clone: the environment is made first, and again when pyproject.toml changes.
# Another interpreter:       make PYTHON=python3.12 test
# PyTorch without CUDA:      install its CPU build into .venv first, as PyTorch's own page says

PYTHON ?= python3
# Extras of pyproject.toml that the environment gets.
EXTRAS ?= all
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Processes for the tests: one a core, four at most.
WORKERS ?= logical
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist worksteal

# Byte code is made once, and not anew by each of the processes that the tests start.
unexport PYTHONDONTWRITEBYTECODE

# Sphinx's builder: the gate's reads and resolves every page, and writes none; in one process, since the tests
# have the other cores.
DOCS ?= html
DOCS_JOBS := $(if $(filter dummy,$(DOCS)),1,auto)

# What each part of the gate says stands in one piece, where make can do that (not the 3.81 of macOS).
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync)

.DEFAULT_GOAL := help
.PHONY: help install demo test slow slurm reliability bench results check lint types layers docs format clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

install: $(STAMP) ## the environment in .venv, with mrisr and all its extras

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 10) <= v < (3, 14) and \
		"mrisr needs Python 3.10 to 3.13, $(PYTHON) is %d.%d; try: make PYTHON=python3.12" % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "No virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $@

demo: $(STAMP) ## upsample a synthetic prostate study and draw the result, into demo/
	$(BIN)/mrisr demo --output demo/

test: $(STAMP) ## the tests, less those marked slow
	$(PYTEST)

slow: $(STAMP) ## the tests that take minutes
	$(PYTEST) -m "slow and not slurm" --timeout 3600

slurm: $(STAMP) ## a batch on a real Slurm whose jobs and controller are killed (root on Debian, beside the development data)
	$(BIN)/python -m pytest -m slurm tests/integration/test_slurm.py

reliability: $(STAMP) ## the promises of docs/reliability.md, tried one by one: a table (THOROUGH=1: with what takes long)
	$(BIN)/python -m tests.reliability $(if $(THOROUGH),,--fast)

bench: $(STAMP) ## what runs cost, as ratios, against configs/benchmark.json: fails where one is 15% worse
	$(BIN)/mrisr benchmark --device cpu --quick --baseline configs/benchmark.json

results: $(STAMP) ## the tables of docs/results.md, from DATA=FOLDER-OF-PATIENTS (TRAIN=1: train the models first)
	@test -n "$(DATA)" || { echo "make results DATA=FOLDER, with a folder per patient" >&2; exit 1; }
	$(BIN)/python docs/scripts/results.py --data $(DATA) --output runs/results $(if $(TRAIN),--train)

check: $(STAMP) ## the gate: lint, format, types, import contract, docs, tests, side by side
	@$(MAKE) --no-print-directory --keep-going --jobs 3 $(SYNC) DOCS=dummy test types docs lint layers

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(STAMP) ## mypy
	$(BIN)/mypy

layers: $(STAMP) ## import-linter: imports point downward
	$(BIN)/lint-imports --no-cache

docs: $(STAMP) ## the documentation, into docs/_build/html
	rm -rf docs/_build docs/reference/api
	$(BIN)/python -m sphinx -W --keep-going -q --jobs $(DOCS_JOBS) -b $(DOCS) docs docs/_build/$(DOCS)

format: $(STAMP) ## let ruff format and mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove what the targets made, except the environment
	rm -rf build dist demo docs/_build docs/reference/api .pytest_cache .mypy_cache .ruff_cache \
		.hypothesis .import_linter_cache
	find mrisr tests docs -name __pycache__ -type d -prune -exec rm -rf {} +
