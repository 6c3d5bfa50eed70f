# Verbs of this repository; `make` alone lists them. Needs Python 3.11 or newer, with venv, and nothing else.

VENV ?= .venv
ENGINE ?= docker
COMPOSE ?= $(ENGINE) compose
TAG ?= latest
PYTHON ?= $(shell command -v python3.11 || command -v python3)
OLDEST ?= .venv-oldest
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help up install test test-gpu test-oldest test-wheels test-compose bench bench-accuracy bench-store bench-faults bench-batches bench-gpu lint format configuration docs weights wheels \
	constraints images sbom clean

help: ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

up: $(VENV)/.installed ## install what is missing and run the whole service until Ctrl-C
	@exec $(BIN)/contextune up

install: $(VENV)/.installed ## make the virtual environment and install the service

# Two processes, each file whole in one of them; OPTIONS="-n 0" runs all in one.
test: $(VENV)/.installed-dev ## run the tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(OPTIONS)

test-gpu: $(VENV)/.installed-dev ## run the tests that need a GPU, which `make test` leaves out; OPTIONS='--device cpu' tries them without
	@$(BIN)/python -m pytest tests/gpu $(OPTIONS)

test-oldest: $(OLDEST)/.installed ## run the tests of gateway and worker with the oldest releases that pyproject.toml allows
	@OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/app tests/worker $(OPTIONS)

test-wheels: wheels $(VENV)/.installed-dev ## install the wheels into a clean environment, run the service from there and put it to the test
	@$(BIN)/python -m tests.wheels.check

# BUILD_ARGS, from the environment, are extra arguments of the engine's build.
# With podman: make test-compose ENGINE=podman COMPOSE=podman-compose
test-compose: $(VENV)/.installed ## build the container images, run the whole stack in them and put it to the test
	@ENGINE='$(ENGINE)' COMPOSE='$(COMPOSE)' CLIENT='$(BIN)/contextune' $(BIN)/python -m tests.compose.check

# OPTIONS are those of the command; see benchmarks/README.md.
bench: $(VENV)/.installed-bench ## measure against named peers, alone on the machine: some hours
	@$(BIN)/python -m benchmarks $(OPTIONS)

# OPTIONS as in benchmarks/gpu/__main__.py; what has figures of this commit and card already is skipped.
bench-gpu: $(VENV)/.installed-bench ## measure kernels and tuning on a GPU, part by part, into benchmarks/gpu.json: minutes
	@$(BIN)/python -m benchmarks.gpu $(OPTIONS)

bench-store: $(VENV)/.installed-bench ## the store with 100,000 contexts and jobs: latencies, memory, what is left: half an hour
	@$(BIN)/python -m benchmarks.store $(OPTIONS)

# Linux only: disks of its own are mounted in a namespace. OPTIONS name parts: disk artifacts store polls trickle bodies.
bench-faults: $(VENV)/.installed-bench ## full disks, a full store and crowds of clients: what is lost, what it costs others: ten minutes
	@$(BIN)/python -m benchmarks.faults $(OPTIONS)

# OPTIONS are those of the command: --count 3000 takes a minute.
bench-batches: $(VENV)/.installed-bench ## a batch of 100,000 texts on the null model, against the in-process scorer: minutes
	@$(BIN)/python -m benchmarks.batches $(OPTIONS)

# OPTIONS as above; see benchmarks/README.md.
bench-accuracy: $(VENV)/.installed-accuracy ## measure accuracy at the same shots against named peers: many hours
	@$(BIN)/python -m benchmarks.accuracy $(OPTIONS)

lint: $(VENV)/.installed-dev ## check style, types and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd client && PYTHONPATH=src:.. $(abspath $(BIN))/lint-imports

format: $(VENV)/.installed-dev ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

configuration: $(VENV)/.installed ## write docs/configuration.md and the table of docs/models.md anew, after a change of the settings
	@$(BIN)/python -m release.configuration docs/configuration.md
	@$(BIN)/python -m release.models docs/models.md

docs: $(VENV)/.installed-dev ## build the pages of docs/, into build/docs
	@$(BIN)/mkdocs build --quiet

weights: | $(BIN)/pip ## make the wheels of the default models' weights, into dist/
	@$(BIN)/python -m release.weights dist

wheels: weights ## make all wheels, into dist/
	rm -rf build client/build dist/contextune-* dist/contextune_server-*
	$(PIP) wheel --no-deps --wheel-dir dist ./client .

images: ## build the images contextune (all in one), contextune-gateway and contextune-worker
	$(ENGINE) build $(BUILD_ARGS) -f docker/gateway.Dockerfile -t contextune-gateway:$(TAG) .
	$(ENGINE) build $(BUILD_ARGS) -f docker/worker.Dockerfile --target worker -t contextune-worker:$(TAG) .
	$(ENGINE) build $(BUILD_ARGS) -f docker/worker.Dockerfile --target all-in-one -t contextune:$(TAG) .

sbom: ## list what the images carry and its licences, into dist/sbom
	mkdir -p dist/sbom
	for image in gateway worker; do \
		$(ENGINE) build $(BUILD_ARGS) -f docker/$$image.Dockerfile --target sbom -t contextune-sbom:$$image . && \
		$(ENGINE) run --rm contextune-sbom:$$image >dist/sbom/$$image.cdx.json && \
		$(ENGINE) run --rm contextune-sbom:$$image dpkg-query -W >dist/sbom/$$image.debian.txt || exit 1; \
	done
	$(PYTHON) -m release.licences dist/sbom/*.cdx.json >dist/sbom/licences.txt

# OPTIONS=--upgrade takes the newest releases; without it pins stay as they are while they fit.
constraints: $(VENV)/.installed-dev ## pin what is installed anew, after a change in pyproject.toml
	$(BIN)/python -m release.constraints $(OPTIONS)

clean: ## remove the virtual environment and what the tools leave; keeps the data folder
	test ! -f $(VENV)/pyvenv.cfg || rm -rf $(VENV) $(OLDEST)
	rm -rf build dist *.egg-info client/build client/src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find app worker client release tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} +

# pip is the last thing that venv makes, so one that failed half-way is made again.
$(BIN)/pip:
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer is needed; make PYTHON=/path/to/python names one' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo '$(PYTHON) is not Python 3.11 or newer; make PYTHON=/path/to/python names another' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Where pip looks: dist/ for our own wheels; release.torch_index says where PyTorch comes from.
INSTALL = $(PIP) install --constraint constraints/cpu.txt --find-links dist $$($(BIN)/python -m release.torch_index)

$(VENV)/.installed: pyproject.toml client/pyproject.toml constraints/cpu.txt release/weights.py | $(BIN)/pip
	$(BIN)/python -m release.weights dist
	$(INSTALL) -e 'client[cli]' -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) -e 'client[cli]' -e '.[dev]'
	@touch $@

# Sees the packages of the first environment behind its own: PyTorch is not installed twice.
$(OLDEST)/.installed: constraints/oldest.txt $(VENV)/.installed-dev
	$(BIN)/python -m venv $(OLDEST)
	$(BIN)/python -c "import sysconfig; print('import site; site.addsitedir(' + repr(sysconfig.get_path('purelib')) + ')')" \
		> $$($(OLDEST)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/installed.pth
	$(OLDEST)/bin/python -m pip --disable-pip-version-check install --requirement constraints/oldest.txt
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(INSTALL) -e 'client[cli]' -e '.[bench]'
	@touch $@

$(VENV)/.installed-accuracy: $(VENV)/.installed
	$(INSTALL) -e 'client[cli]' -e '.[bench,accuracy]'
	@touch $@
