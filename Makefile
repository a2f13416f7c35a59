# Everything is set up in .venv on first use; only Python 3.10+ and make are needed.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test test-fast lint peers clean

demo: .venv/installed-base
	$(BIN)/python -m beam_coresets.pipelines.demo

test: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

# The peers ask for NumPy 1, so they get an environment of their own.
peers: .venv/installed-dev .venv-peers/installed
	$(BIN)/python benchmarks/peers.py

.venv/installed-base: setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -e .
	touch $@

.venv/installed-dev: .venv/installed-base
	$(BIN)/python -m pip install -q -e '.[dev]'
	touch $@

.venv-peers/installed:
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install -q coresets bico scikit-learn threadpoolctl
	touch $@

clean:
	rm -rf .venv .venv-peers .demo build *.egg-info
