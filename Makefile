# Shortcuts; `make help` lists them.
PYTHON ?= .venv/bin/python

.PHONY: help develop test lint types bench memory complexity

help:
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' $(MAKEFILE_LIST)

develop: ## virtual environment with everything
	python3 -m venv .venv && .venv/bin/pip install -e '.[test]'

test: ## all tests
	$(PYTHON) -m pytest

lint: ## style, and formatting in place
	$(PYTHON) -m ruff check --fix . && $(PYTHON) -m ruff format .

types: ## static types
	$(PYTHON) -m pyright --pythonpath $(PYTHON)

bench: ## time of a whole call, stage by stage, into results/
	$(PYTHON) benchmarks/stages.py

memory: ## memory over a video of 10,000 frames, into results/
	$(PYTHON) benchmarks/memory.py

complexity: ## parameters and multiply-adds of all networks beside the papers', into results/
	$(PYTHON) benchmarks/complexity.py
