# The two commands a newcomer needs, and what continuous integration runs. All of them make .venv first.
PYTHON ?= python3
BIN := .venv/bin
# Compiling thousands of modules that nobody imports would take a third of the time.
PIP := PIP_NO_COMPILE=1 $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help train sweep test test-browser test-slow test-lowest lint docs clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 16

train: .venv/installed  ## train the main example through Ray: DMGAN-PL, ten generators, unbalanced line segments
	$(BIN)/python ray_jobs/train.py configs/lines_dmgan_pl.yaml

sweep: .venv/installed  ## search number of generators, entropy decay and topology weight; resumes where it was stopped
	$(BIN)/python tuning/sweep.py tuning/lines.yaml --resume

test: .venv/installed-dev  ## run the tests, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadgroup

test-browser: .venv/installed-dev  ## open reports and the demo in a headless Chromium, in two sizes
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow tests/test_report_page.py tests/test_demo.py

test-slow: .venv/installed-dev  ## run the tests that `make test` leaves out: the rest of the faults and sweeps
	$(BIN)/python -m pytest -m slow

test-lowest:  ## run the fast tests with the lowest versions of all packages that pyproject.toml allows
	PYTHON=$(PYTHON) .ci/lowest

lint: .venv/installed-dev  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/installed-dev  ## build the documentation as a site, in docs/_build
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build

clean:  ## remove the environment (not your runs)
	rm -rf .venv

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --quiet --editable '.[all]'
	touch $@

.venv/installed-dev: pyproject.toml .venv/installed
	$(PIP) install --quiet --editable '.[dev]'
	touch $@
