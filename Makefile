# Everything is installed into .venv, from requirements.lock; the only things needed are make and Python >= 3.11.
.DEFAULT_GOAL := help
.PHONY: help setup run test test-fast lint bench assets lock

WORKERS ?= 2
# Tests of real processes mostly wait for them; more than two at a time take turns on two cores.
JOBS ?= 2
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# Written last, and removed first: a .venv without it was never finished, or broke halfway, and is made anew.
STAMP := $(VENV)/.complete

FIT := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python
# A candidate must run, not only exist: pyenv leaves commands that only print an error.
PYTHON ?= $(shell for p in $(CANDIDATES); do $$p -c '$(FIT)' >/dev/null 2>&1 && { echo $$p; break; }; done)
PYTEST = $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1@\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F@ '{ printf "%-18s %s\n", $$1, $$2 }'

setup: $(STAMP) ## make .venv and install what requirements.lock pins

run: $(STAMP) ## start the broker and the workers (WORKERS=2); Ctrl-C stops them
	@exec $(BIN)/leads up --workers $(WORKERS)

test: $(STAMP) ## run every test, JOBS=2 at a time (ARGS="-k name" for some)
	$(PYTEST) $(ARGS)

test-fast: $(STAMP) ## run the tests that need no broker
	$(PYTEST) -m "not integration" $(ARGS)

lint: $(STAMP) ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict pipeline agents tables
	$(BIN)/lint-imports --no-logo

bench: $(STAMP) ## measure the throughput of this machine
	$(BIN)/leads bench $(ARGS)

assets: $(STAMP) ## compress the pictures in pipeline/web/pictures for the page; fails above the budget
	$(BIN)/python -m pipeline.lab.pictures

lock: ## write requirements.lock anew (ARGS=--upgrade for newer versions)
	@$(require-python)
	$(PYTHON) -m venv --clear $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet "pip-tools==7.6.2"
	CUSTOM_COMPILE_COMMAND="make lock" $(VENV)-lock/bin/pip-compile --quiet --extra dev --extra bench --all-build-deps \
	    --generate-hashes --allow-unsafe --strip-extras --no-emit-options --no-emit-index-url \
	    --no-emit-trusted-host --no-emit-find-links $(ARGS) --output-file requirements.lock pyproject.toml
	rm -rf $(VENV)-lock

define require-python
'$(PYTHON)' -c '$(FIT)' >/dev/null 2>&1 || { echo "This needs Python 3.11 or newer with its venv module: \
install it (Debian and Ubuntu: python3 and python3-venv), or name one with make PYTHON=/path/to/python3." >&2; exit 1; }
endef

$(STAMP): requirements.lock pyproject.toml
	@if test -e $(STAMP) && $(BIN)/python -c '$(FIT)' 2>/dev/null; then \
	    echo "Bringing $(VENV) up to date."; rm -f $(STAMP); \
	else \
	    $(require-python); \
	    echo "Setting up $(VENV) once: a minute or two."; $(PYTHON) -m venv --clear $(VENV); \
	fi
	@# What is never imported need not be compiled, and that is most of it.
	@$(PIP) install --quiet --no-compile --require-hashes -r requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $(STAMP)
