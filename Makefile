# make test | make test-all | make lint | make docs | make bench: each sets up .venv first if need be.
venv := $(or $(FROSTLINE_VENV),.venv)

.PHONY: setup test test-all lint format docs bench
setup:
	./setup.sh
test: setup
	$(venv)/bin/python -m pytest -m "not slow"
test-all: setup # with the slow ones: long sweeps, many kills
	$(venv)/bin/python -m pytest
lint: setup
	$(venv)/bin/ruff check .
	$(venv)/bin/ruff format --check .
	$(venv)/bin/mypy
format: setup
	$(venv)/bin/ruff check --fix .
	$(venv)/bin/ruff format .
docs: setup # the site, into site/; open site/index.html
	NO_MKDOCS_2_WARNING=1 $(venv)/bin/mkdocs build --strict --quiet
bench: setup # make bench args="full --repeats 3"
	@$(venv)/bin/python -c "import importlib.util as u; assert u.find_spec('sentence_transformers') and u.find_spec('accelerate')" \
		2>/dev/null || $(venv)/bin/pip install -q --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(venv)/bin/python benchmarks/run.py $(args)
