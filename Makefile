# Everything that a fresh machine with Python 3.11, make and git needs. uv is used where it is there, pip where it is not.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
# Quick tests use two processes: more would starve the servers that each of them starts.
JOBS ?= 2

.PHONY: help install demo dev test test-slow check format lock bench clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

install: $(VENV)/.runtime ## Make the virtual environment with everything that runs Conductor

demo: $(VENV)/.runtime ## Run a whole agent session: fetch a page, run code, SQL with approval
	@infra/ensure-sandbox.sh
	@$(BIN)/conductor demo

dev: $(VENV)/.runtime ## Start the whole stack on this machine and keep it running
	@$(BIN)/conductor dev

test: $(VENV)/.dev ## Run the quick tests
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow" $(ARGS)

test-slow: $(VENV)/.dev ## Run the slow tests: crashes, load, long sessions
	@$(BIN)/python -m pytest -m slow $(ARGS)

check: $(VENV)/.dev ## Check format, lint, types, architecture, file sizes
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports
	@$(BIN)/mypy
	@$(BIN)/python infra/checks/file_size.py
	@$(BIN)/python -m infra.docs.generate --check
	@$(BIN)/python infra/seccomp/generate.py --check
	@echo "All checks passed."

format: $(VENV)/.dev ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/.dev $(VENV)-bench/.made ## Measure, and write docs/benchmarks.md (see bench/README.md)
	@$(BIN)/python -m bench $(ARGS)

lock: ## Resolve the dependencies anew (needs uv)
	uv pip compile pyproject.toml --extra local --group build --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command "make lock" --quiet -o requirements.txt
	uv pip compile pyproject.toml --extra local --group build --group dev -c requirements.txt --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" --quiet -o requirements-dev.txt

clean: ## Remove the virtual environment and the data of `conductor dev`
	rm -rf $(VENV) $(VENV)-bench .conductor

# The project itself is installed in place, by the hatchling of the lock file: nothing is resolved here.
define installed
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Conductor needs Python 3.11 or newer; $(PYTHON) is older. Install it, or run: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing from $(1) …"
	@if [ -n "$(UV)" ]; then \
	  $(UV) pip install --quiet --python $(BIN)/python --require-hashes -r $(1) && \
	  $(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	fi
endef

$(VENV)/.runtime: requirements.txt pyproject.toml
	$(call installed,requirements.txt)
	@touch $@

# What Conductor is measured beside never meets the product's own environment.
$(VENV)-bench/.made: bench/requirements.txt
	@test -x $(VENV)-bench/bin/python || $(PYTHON) -m venv $(VENV)-bench
	@if [ -n "$(UV)" ]; then $(UV) pip install --quiet --python $(VENV)-bench/bin/python -r $<; \
	  else $(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check -r $<; fi
	@touch $@

$(VENV)/.dev: requirements-dev.txt pyproject.toml
	$(call installed,requirements-dev.txt)
	@touch $@ $(VENV)/.runtime
