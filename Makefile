# make test | make lint | make bench: each sets up .venv first if need be.
venv := $(or $(FROSTLINE_VENV),.venv)

.PHONY: setup test lint format bench
setup:
	./setup.sh
test: setup
	$(venv)/bin/python -m pytest
lint: setup
	$(venv)/bin/ruff check .
	$(venv)/bin/ruff format --check .
	$(venv)/bin/mypy
format: setup
	$(venv)/bin/ruff check --fix .
	$(venv)/bin/ruff format .
bench: setup
	$(venv)/bin/python benchmarks/frozen_depth.py
