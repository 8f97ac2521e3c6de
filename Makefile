# Two commands do everything: make run, make test. make help lists the rest.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints.txt
WEIGHTS := weights

# What is installed follows from these files alone: unchanged files cost nothing.
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
PEERS := benchmarks/.venv/.installed
DEMO := $(WEIGHTS)/imagenet/1/manifest.json

.DEFAULT_GOAL := help
.PHONY: help install demo run test check lint format types coverage bench bundle test-deploy clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make the virtual environment and install what serving needs

demo: $(DEMO) ## build the demo model's package under weights/

run: $(DEMO) ## install, build the demo package and serve it in the foreground
	@exec $(BIN)/classifyd serve

test: $(INSTALLED_DEV) $(DEMO) ## install what tests need and run them
	@$(BIN)/python -m pytest

check: lint types test ## what CI runs: lint, types, tests

lint: $(INSTALLED_DEV) ## style, formatting and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

format: $(INSTALLED_DEV) ## format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(INSTALLED_DEV) ## static types
	@$(BIN)/mypy

coverage: $(INSTALLED_DEV) $(DEMO) ## branch coverage of the tests
	@$(BIN)/python -m pytest --cov --cov-report=term

bench: $(INSTALLED_DEV) $(DEMO) $(PEERS) ## compare with the loop without HTTP and with other servers
	@$(BIN)/python -m benchmarks.run

$(PEERS): benchmarks/requirements.txt benchmarks/constraints.txt
	@echo "Installing the other servers into benchmarks/.venv"
	@$(PYTHON) -m venv benchmarks/.venv
	@benchmarks/.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint benchmarks/constraints.txt --requirement benchmarks/requirements.txt
	@touch $@

FLAVOUR ?= cpu
PACKAGES ?= $(WEIGHTS)

bundle: $(if $(filter $(WEIGHTS),$(PACKAGES)),$(DEMO),$(INSTALLED)) ## make one offline archive for servers in dist/ (PACKAGES=folder, FLAVOUR=cuda PIP_ARGS=... for CUDA)
	@deploy/bundle.sh $(BIN)/python dist $(PACKAGES) $(FLAVOUR)

test-deploy: bundle ## install the bundle in a Debian container, break, upgrade and remove it (needs root)
	@tests/deploy/in_container.sh "$$(ls -t dist/*.tar | head -n 1)" $(STEPS)

clean: ## remove the virtual environment, the built packages and the state
	rm -rf $(VENV) $(WEIGHTS)/imagenet var build dist *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "classifyd needs Python 3.11 or later: install python3.11 and python3.11-venv, or name another one with make PYTHON=..." >&2; exit 1; }
	@# A half-made environment would be taken for a whole one by the next call.
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(INSTALLED): $(VENV)/bin/python setup.cfg pyproject.toml $(CONSTRAINTS)
	@echo "Installing into $(VENV) (about 1.4 GB)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[demo]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --only-binary openvino --editable '.[openvino]' \
		|| echo "OpenVINO has no wheel for this machine: TorchScript computes instead, which is slower"
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	@echo "Installing the development tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[demo,dev]'
	@touch $@

$(DEMO): $(INSTALLED)
	@$(BIN)/python -m app.packages.demo --weights $(WEIGHTS)
	@touch $@
