# `make demo` and `make test` are all that a newcomer needs: both install what is missing, then do their work.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
OTHER_PYTHONS := 3.12 3.13
TESTS :=
# Per cent of lines and branches: two below what was measured.
FLOORS := wire:97 session:97 program:66

# Images of containers set it. Every process of every test would then compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test weekly check docs dist coverage test-other-pythons bench soak fuzz audit messages tor peers clean

help:
	@echo "make demo   three parties on this machine compute an average salary over a private Tor network"
	@echo "make test   format, lint, types, import contracts, and all tests"
	@echo "make check  the first four of these alone"
	@echo "make docs   the documentation as a site, in build/docs, with its links checked"
	@echo "make dist   wheel and sdist, in dist, each tried in a bare environment with a demo from outside the tree"
	@echo "make coverage   branch coverage of wire, session and program by the tests that need no tor, with a floor for each"
	@echo "make bench  the benchmarks in short, into benchmarks/results/, and what was aimed at"
	@echo "make soak MINUTES=30   one session under faults of every kind, one each EVERY=12 seconds; also PARTIES=3, SEED=..."
	@echo "make fuzz MINUTES=10   what every decoder does with bytes that nobody thought of; what is found goes into tests/fuzz/corpus"
	@echo "make weekly  the tests that take too long for make test"
	@echo "make audit  the tests that hold each claim of docs/THREATS.md, and a line for each claim"
	@echo "make messages   every sentence that a user can see, with its place, to be read aloud"
	@echo "make test-other-pythons   the tests that need no tor, with each of: $(OTHER_PYTHONS)"

demo: $(INSTALLED)
	@$(BIN)/onionmpc demo

# Tests that need no tor wait for half of their time, so four run on two cores. Of those with tor, the tests of one file
# share a party, and stay together; most of them wait for tor. The sessions of tests/e2e are about time, and have the
# machine for themselves.
test: check peers
	@$(BIN)/python -m compileall -q onionmpc
	$(BIN)/python -m pytest -q -m "not tor and not weekly" --numprocesses 4
	$(BIN)/python -m pytest -q -m "tor and not weekly" --ignore tests/e2e --numprocesses 3 \
		--dist loadfile --no-loadscope-reorder --durations=10
	$(BIN)/python -m pytest -q -m "tor and not weekly" --durations=10 tests/e2e

# What is too long for each change. A shorter case of each runs in `make test`.
weekly: peers
	$(BIN)/python -m pytest -q -m weekly --durations=15

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(INSTALLED)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --fresh-env --builder html docs build/docs
	$(BIN)/python .ci/check_site.py build/docs

dist: $(INSTALLED)
	@PYTHON=$(BIN)/python .ci/dist

# What runs in the program's own process is not measured: its walls let no figures out.
coverage: $(INSTALLED)
	$(BIN)/coverage run -m pytest -q -m "not tor" -p no:cacheprovider tests/wire tests/session tests/program
	@for layer in $(FLOORS); do \
		$(BIN)/coverage report --include="onionmpc/$${layer%:*}/*" --fail-under="$${layer#*:}" || exit 1; \
	done

test-other-pythons: $(INSTALLED)
	@PYTHONS="$(OTHER_PYTHONS)" TESTS="$(TESTS)" .ci/other-pythons

# The short set, with every figure of benchmarks/report.py, in less than 20 minutes; the defaults of each measure more.
bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.commands
	$(BIN)/python -m benchmarks.guard_discovery
	$(BIN)/python -m benchmarks.privacy_speed --repeats 1 \
		--only "no tor" --only short --only standard --only long
	$(BIN)/python -m benchmarks.cost
	$(BIN)/python -m benchmarks.overhead --repeats 5
	$(BIN)/python -m benchmarks.attack --repeats 3
	$(BIN)/python -m benchmarks.startup --repeats 1
	$(BIN)/python -m benchmarks.bulk --networks 1 --repeats 1
	$(BIN)/python -m benchmarks.scale --repeats 1 --only "3 parties" --only "7 parties" --only "25 parties"
	$(BIN)/python -m benchmarks.recovery --repeats 1
	$(BIN)/python -m benchmarks.link_cost --repeats 1
	$(BIN)/python -m benchmarks.report

MINUTES ?= 30
PARTIES ?= 3
EVERY ?= 12
SEED ?=

soak: $(INSTALLED)
	$(BIN)/python -m tests.e2e.soak --minutes $(MINUTES) --parties $(PARTIES) --every $(EVERY) $(if $(SEED),--seed $(SEED))

# Each time goes on from what those before have found. `make test` does so too, for three seconds a target.
fuzz: $(INSTALLED)
	$(BIN)/python -m tests.fuzz.long --minutes $(MINUTES)

audit: $(INSTALLED)
	$(BIN)/python -m tests.audit

messages: $(INSTALLED)
	@$(BIN)/python -m tests.words

# What the machine must have. Debian and its kin are served; others are told the one command.
tor:
	@.ci/install-tor $(PYTHON)

# What tests meet: a bridge's transport, which a party needs only for --bridge obfs4, the ssh-keygen that signs
# statements, and another user of tor.
peers:
	@.ci/install-tor $(PYTHON) obfs4proxy $(if $(filter Linux,$(shell uname -s)),onionshare-cli ssh-keygen:openssh-client)

$(INSTALLED): pyproject.toml constraints.txt | tor
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "onionmpc needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "installing onionmpc and what it stands on into $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
