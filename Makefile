# `make demo` and `make test` do everything on a fresh machine with Python 3.11 or later.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CONSTRAINTS := constraints.txt
# how many tests run at a time; files of tests stay together
WORKERS ?= 2
SIDE_BY_SIDE := -n $(WORKERS) --dist loadfile

.DEFAULT_GOAL := help

help:  ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

# torch comes first, in the one version that is tested, so that nothing else pulls in another
$(VENV)/.installed: setup.py constraints.txt Makefile
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint $(CONSTRAINTS) torch==2.13.0
	$(PIP) install --quiet --constraint $(CONSTRAINTS) --editable '.[dkl]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install --quiet --constraint $(CONSTRAINTS) --editable '.[dkl,rl,cluster,test,export]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) install --quiet --constraint $(CONSTRAINTS) --editable '.[docs]'
	@touch $@

demo: $(VENV)/.installed  ## a whole experiment on the virtual microscope, and its report
	$(BIN)/autoexp demo

# the real windows by themselves: they share a mouse, and are looked at for how fluid they are
test: $(VENV)/.installed-test  ## unit, property, headless-Swift and real-window tests
	$(BIN)/python -m pytest -m "not slow and not window" $(SIDE_BY_SIDE) --durations=30
	$(BIN)/python -m pytest -m "window and not slow"
	$(BIN)/python tests/newest_python.py $(SIDE_BY_SIDE)

test-all: $(VENV)/.installed-test  ## the slower tier as well: Swift's own device suites
	$(BIN)/python -m pytest

test-long: $(VENV)/.installed-test  ## ten thousand hostile cases of each kind, a thousand kills; takes hours
	AUTOEXP_FUZZ=10000 AUTOEXP_KILLS=1000 $(BIN)/python -m pytest -m "not window" $(SIDE_BY_SIDE) --durations=30

mutants: $(VENV)/.installed-test  ## deliberate faults in the source, of which the tests have to find 95 %; takes an hour
	$(BIN)/python tests/mutants/mutation.py --jobs $(WORKERS)

lint: $(VENV)/.installed-test  ## ruff, mypy strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy autoexp simulators/virtual_stem nionswift_plugin
	$(BIN)/lint-imports

app: $(VENV)/.installed-test  ## real Swift with the virtual microscope and the panel
	$(BIN)/autoexp simulate

bench: $(VENV)/.installed-test  ## the numbers, as medians and ratios, with the core count
	$(BIN)/python -m benchmarks

bench-peers: $(VENV)/.installed-test  ## beside AtomAI and plain policies, in an environment of their own; takes an hour
	$(BIN)/python -m benchmarks.peers $(DATASETS)

bench-align: $(VENV)/.installed-test  ## how the beam is aligned, on thousands of simulated instruments
	$(BIN)/python -m benchmarks.alignment

docs: $(VENV)/.installed-docs  ## the documentation, in docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

clean:  ## forget the environment and everything that was built
	rm -rf $(VENV) .venv-newest .venv-peers build dist docs/_build .mypy_cache .ruff_cache .pytest_cache

.PHONY: help demo test test-all test-long mutants lint app bench bench-peers bench-align docs clean
