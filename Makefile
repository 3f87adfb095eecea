# `make demo` and `make test` are all that a newcomer needs: both install what is missing, then do their work.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
OTHER_PYTHONS := 3.12 3.13

.PHONY: help demo test check test-other-pythons bench soak tor clean

help:
	@echo "make demo   three parties on this machine compute an average salary over a private Tor network"
	@echo "make test   format, lint, types, import contracts, and all tests"
	@echo "make check  the first four of these alone"
	@echo "make bench  the benchmarks, into benchmarks/results/"
	@echo "make soak MINUTES=30   one session under faults of every kind, one each EVERY=12 seconds; also PARTIES=3, SEED=..."
	@echo "make test-other-pythons   the tests that need no tor, with each of: $(OTHER_PYTHONS)"

demo: $(INSTALLED)
	@$(BIN)/onionmpc demo

test: check
	$(BIN)/python -m pytest -q --durations=15

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-other-pythons: $(INSTALLED)
	@PYTHONS="$(OTHER_PYTHONS)" .ci/other-pythons

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.startup --budget 600
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.recovery
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks.guard_discovery
	$(BIN)/python -m benchmarks.privacy_speed

MINUTES ?= 30
PARTIES ?= 3
EVERY ?= 12
SEED ?=

soak: $(INSTALLED)
	$(BIN)/python tests/e2e/soak.py --minutes $(MINUTES) --parties $(PARTIES) --every $(EVERY) $(if $(SEED),--seed $(SEED))

# What the machine must have. Debian and its kin are served; others are told the one command.
tor:
	@.ci/install-tor $(PYTHON)

$(INSTALLED): pyproject.toml constraints.txt | tor
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "onionmpc needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "installing onionmpc and what it stands on into $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
