PYTHON ?= python3

.PHONY: setup
setup: .venv/ready

.venv/ready: requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements-dev.lock
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch .venv/ready
