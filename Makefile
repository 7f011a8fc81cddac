# make bench   makes .venv, installs, runs the `quick` suite and says where its tables and figures are
# make peers   adds the libraries of docs/peers.md, alone, as two of them ask for packages that nothing here needs
# make test    the same installation, then lint, types and tests
#
# PYTHON=python3.12      which Python to use (3.11 or later); by default the first such one on PATH
# TORCH_INDEX=URL        take torch from another index, such as one of CPU-only wheels

SHELL := /bin/bash

VENV := .venv
INSTALLED := $(VENV)/.installed
DEVELOPING := $(VENV)/.developing
PYTHON ?= $(shell for python in python3 python python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt

.DELETE_ON_ERROR:
.PHONY: bench peers test install clean

bench: $(INSTALLED)
	$(VENV)/bin/bdia-bench run quick

peers: $(INSTALLED)
	$(PIP) --no-deps revlib revtorch memcnn momentumnet

test: $(DEVELOPING)
	scripts/check

install: $(DEVELOPING)

# The stamp makes a second `make` instant; a change of what is to be installed installs again.
$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or later on PATH: install one, or name it with PYTHON=" >&2; exit 1; }
	@echo "installing into $(VENV) with $(PYTHON): torch is large, so the first time takes a few minutes"
	$(PYTHON) -m venv $(VENV)
ifdef TORCH_INDEX
	$(PIP) --index-url "$(TORCH_INDEX)" torch
endif
	$(PIP) --editable .
	@touch $@

# What only the tests need, transformers among it, is left out of the first `make bench`.
$(DEVELOPING): $(INSTALLED)
	$(PIP) --editable ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
