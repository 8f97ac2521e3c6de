# Start with make run or make test; make help lists all targets.

# Each is run: pyenv has a python3.12 that only says where the real one is.
PYTHON ?= $(or $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2> /dev/null \
	&& echo $$python && break; done),python3)
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints.txt
# Where pip finds wheels: INDEX=URL, or WHEELS=FOLDER without any index; PIP_ARGS for the rest.
PIP_SOURCE = $(if $(INDEX),--index-url $(INDEX)) $(if $(WHEELS),--no-index --find-links $(WHEELS)) $(PIP_ARGS)
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_SOURCE) --constraint $(CONSTRAINTS)
WEIGHTS := weights

# Stamps: nothing is installed again until a file that lists dependencies changes.
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALLED_EXTRAS := $(VENV)/.installed-extras
INSTALLED_BUNDLE := $(VENV)/.installed-bundle
ALL_EXTRAS := demo,build,huggingface,train,bundle,manual,dev,browser,openapi,fuzz,parquet,s3,ray,moto,kubernetes
LOWEST := .venv-lowest
UPDATE := .venv-update
INSTALLED_LOWEST := $(LOWEST)/.installed
PEERS := benchmarks/.venv/.installed
DEMO := $(WEIGHTS)/imagenet/1/manifest.json
# Stays when the demo package is removed, so that only make demo and the tests build it again.
DEMO_ONCE := $(WEIGHTS)/.demo-built
MANUAL := app/manual/index.html

.DEFAULT_GOAL := help
.PHONY: help install extras demo run train test check lint format types coverage lowest update bench manual wheel bundle image test-deploy test-container clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## create the virtual environment and install what serving and training need (INDEX=URL, WHEELS=folder or PIP_ARGS=... for pip)

extras: $(INSTALLED_EXTRAS) ## install the Python packages that only some tests need

demo: $(DEMO) ## build the demo model's package under weights/

run: $(DEMO_ONCE) $(MANUAL) ## install, build the demo package the first time, and serve in the foreground
	@exec $(BIN)/classifyd serve

train: $(INSTALLED) ## install, and train a classifier: PHOTOS=folder NAME=deploy-name (TRAIN_ARGS=options)
	@$(BIN)/classifyd train $(if $(PHOTOS),"$(PHOTOS)",photos) --name "$(NAME)" $(TRAIN_ARGS)

test: $(INSTALLED_DEV) $(DEMO) $(MANUAL) ## run the tests, a process for each CPU
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile

check: lint types test ## lint, check types and run the tests

lint: $(INSTALLED_DEV) ## check style, formatting and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

format: $(INSTALLED_DEV) ## format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(INSTALLED_DEV) ## check types
	@$(BIN)/mypy

coverage: $(INSTALLED_DEV) $(DEMO) ## measure the branch coverage of the tests
	@$(BIN)/python -m pytest --cov --cov-report=term

lowest: $(INSTALLED_LOWEST) $(DEMO) ## run unit and API tests with the lowest versions in setup.cfg (may install a CUDA torch: 6 GB)
	@$(LOWEST)/bin/python -m pytest tests/unit tests/api

update: ## renew constraints.txt with the newest versions that setup.cfg allows, and show what changed
	@rm -rf $(UPDATE)
	@$(PYTHON) -m venv $(UPDATE)
	@$(UPDATE)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_SOURCE) --editable '.[openvino,$(ALL_EXTRAS)]'
	@# CUDA's libraries and the build of torch depend on the machine, and are not pinned.
	@{ sed -n '/^#/p' $(CONSTRAINTS); $(UPDATE)/bin/python -m pip freeze --all --exclude pip --exclude-editable \
		| sed 's/+.*//' | grep -Ev '^(nvidia|cuda|triton)' | LC_ALL=C sort -f; } > $(UPDATE)/constraints.txt
	@LC_ALL=C sort -f $(CONSTRAINTS) > $(UPDATE)/before
	@LC_ALL=C sort -f $(UPDATE)/constraints.txt | diff --unified=0 $(UPDATE)/before - | grep '^[+-][^+-]' || echo "nothing changed"
	@cp $(UPDATE)/constraints.txt $(CONSTRAINTS)
	@rm -rf $(UPDATE)

bench: $(INSTALLED_DEV) $(DEMO) $(PEERS) ## compare with the loop without HTTP and with other servers
	@$(BIN)/python -m benchmarks.run

$(PEERS): benchmarks/requirements.txt benchmarks/constraints.txt
	@echo "Installing the other servers into benchmarks/.venv"
	@$(PYTHON) -m venv benchmarks/.venv
	@benchmarks/.venv/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_SOURCE) --constraint benchmarks/constraints.txt --requirement benchmarks/requirements.txt
	@touch $@

manual: $(MANUAL) ## build the manual, which the server has at /manual

wheel: $(INSTALLED) $(MANUAL) ## make the wheel in dist/
	@# What an earlier build left there would become part of the wheel.
	@rm -rf build
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check $(PIP_SOURCE) --no-deps --wheel-dir dist .
	@ls dist/classifyd-*.whl

FLAVOUR ?= cpu
PACKAGES ?= $(WEIGHTS)

bundle: $(MANUAL) $(if $(filter $(WEIGHTS),$(PACKAGES)),$(DEMO_ONCE)) $(INSTALLED_BUNDLE) ## make one offline archive for servers in dist/ (PACKAGES=folder, PYTHONS="3.11 3.12", KEY=file to sign, FLAVOUR=cuda PIP_ARGS=... for CUDA)
	@PIP_ARGS="$(PIP_SOURCE)" PYTHONS="$(PYTHONS)" KEY="$(KEY)" deploy/bundle.sh $(BIN)/python dist $(PACKAGES) $(FLAVOUR)

IMAGE ?= classifyd

image: bundle ## build the container image from the bundle (BASE_IMAGE=name, IMAGE=name, DOCKER=podman)
	@BASE_IMAGE="$(BASE_IMAGE)" DOCKER="$(DOCKER)" DOCKER_ARGS="$(DOCKER_ARGS)" \
		deploy/container/build.sh "$$(ls -t dist/*.tar | head -n 1)" $(IMAGE)

test-container: $(DEMO) bundle ## try the container image with podman (needs root)
	@tests/deploy/container.sh "$$(ls -t dist/*.tar | head -n 1)" $(STEPS)

test-deploy: $(DEMO) bundle ## install the bundle in a Debian container, break, upgrade and remove it (needs root)
	@tests/deploy/in_container.sh "$$(ls -t dist/*.tar | head -n 1)" $(STEPS)

clean: ## remove what make can make again; keys, tokens, certificates and licences stay
	rm -rf app/manual $(VENV) $(LOWEST) $(UPDATE) build dist *.egg-info $(addprefix var/,engines metrics workers classifyd.log*)
	@# Not with versions of your own beside it.
	@[ "$$(echo $(WEIGHTS)/imagenet/*/)" != $(WEIGHTS)/imagenet/1/ ] || rm -rf $(WEIGHTS)/imagenet $(DEMO_ONCE)
	@[ -z "$$(ls -A var 2> /dev/null)" ] || echo "Kept in var/: $$(ls -A var | tr '\n' ' ')"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "classifyd needs Python 3.11 or later: install python3.11 and python3.11-venv, or name another one with make PYTHON=..." >&2; exit 1; }
	@# A partly created environment would look complete to the next call.
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(INSTALLED): $(VENV)/bin/python setup.cfg pyproject.toml $(CONSTRAINTS)
	@echo "Installing into $(VENV) (1.6 GB; 6 GB if the index gives the CUDA build of torch, see README.md)"
	@$(PIP_INSTALL) --editable '.[demo,train,manual]'
	@$(PIP_INSTALL) --only-binary openvino --editable '.[openvino]' \
		|| echo "OpenVINO has no wheel for this platform: TorchScript is used instead, which is slower"
	@$(BIN)/python -m app.system.cuda_build
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	@echo "Installing the development tools into $(VENV)"
	@$(PIP_INSTALL) --editable '.[demo,build,train,bundle,manual,dev]'
	@touch $@

$(INSTALLED_BUNDLE): $(INSTALLED)
	@$(PIP_INSTALL) --editable '.[bundle]'
	@touch $@

$(INSTALLED_EXTRAS): $(INSTALLED_DEV)
	@echo "Installing the extras of the tests into $(VENV)"
	@$(PIP_INSTALL) --editable '.[$(ALL_EXTRAS)]'
	@touch $@

$(INSTALLED_LOWEST): $(INSTALLED_DEV)
	@echo "Installing the lowest versions into $(LOWEST)"
	@rm -rf $(LOWEST)
	@$(PYTHON) -m venv $(LOWEST)
	@$(BIN)/python -m tests.support.lowest openvino demo build train bundle dev > $(LOWEST)/constraints.txt
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_SOURCE) --constraint $(LOWEST)/constraints.txt --editable '.[openvino,demo,build,train,bundle,dev]'
	@touch $@

$(DEMO): $(INSTALLED)
	@$(BIN)/python -m app.packages.demo --weights $(WEIGHTS)
	@touch $@

$(MANUAL): $(wildcard docs/*.md docs/zh/*.md docs/manual/*.py README*.md) | $(INSTALLED)
	@$(BIN)/python docs/manual/build.py app/manual

$(DEMO_ONCE): | $(INSTALLED)
	@$(BIN)/python -m app.packages.demo --weights $(WEIGHTS)
	@touch $@
