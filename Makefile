# make demo   set up .venv, then walk a short schedule with three methods and extend a network
# make test   set up .venv, then ruff, mypy and the tests
#
# On Linux without a GPU, this saves several GB of CUDA:
#   make venv PIP_ARGS='--extra-index-url https://download.pytorch.org/whl/cpu'
# Another interpreter (3.10 to 3.13): make venv PYTHON=/path/to/python3.12

# Given on the command line or in the environment; tools/make_venv.sh reads them.
PYTHON ?=
PIP_ARGS ?=
PYTEST_ARGS ?=
DEMO_ARGS ?=
export PYTHON PIP_ARGS

# Relative, so that a checkout may lie on a path with spaces: make runs in its own folder.
BIN := .venv/bin

.PHONY: help venv test test-fast test-slow demo docs lint format clean

help:
	@echo 'make demo       set-up, then a short incremental walk with its comparison and report'
	@echo 'make test       set-up, then ruff, mypy and the tests without the slow ones'
	@echo 'make test-fast  set-up, then the tests that neither walk nor start processes'
	@echo 'make test-slow  set-up, then the slow tests'
	@echo 'make docs       set-up, then the documentation site in build/site'
	@echo 'make lint       set-up, then ruff and mypy'
	@echo 'make format     set-up, then ruff mends and formats every file'
	@echo 'make venv       set-up only: .venv, reused while requirements.lock is unchanged'
	@echo 'make clean      remove caches and build folders (.venv stays)'
	@echo "options         PYTHON=python3.12  PIP_ARGS='--extra-index-url URL'  PYTEST_ARGS='-k NAME'"

venv:
	@bash tools/make_venv.sh

lint: venv
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

# One thread each: torch's own would only be in each other's way.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m 'not slow' -n logical --maxprocesses 4 \
		--dist worksteal $(PYTEST_ARGS)

test-fast: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m 'not slow and not walk' -n logical \
		--maxprocesses 4 --dist worksteal $(PYTEST_ARGS)

test-slow: venv
	$(BIN)/python -m pytest -q -m slow $(PYTEST_ARGS)

demo: venv
	$(BIN)/python tools/demo.py $(DEMO_ARGS)

format: venv
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

# Strict: a broken link, an unknown option or a page without a place is an error.
docs: venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r docs/requirements.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo 'the site: build/site/index.html'

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -path ./.venv -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
