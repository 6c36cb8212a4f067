# Shortcuts; `make help` lists them.
PYTHON ?= .venv/bin/python

.PHONY: help develop test fuzz lint types contracts bench memory complexity docs

help:
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' $(MAKEFILE_LIST)

develop: ## virtual environment with everything
	python3 -m venv .venv && .venv/bin/pip install -e '.[test]'

test: ## all tests
	$(PYTHON) -m pytest

fuzz: ## 3,700 damaged images, videos, annotations and requests
	LITHEPOSE_FUZZ=1 $(PYTHON) -m pytest tests/fuzz

lint: ## style, and formatting in place
	$(PYTHON) -m ruff check --fix . && $(PYTHON) -m ruff format .

types: ## static types
	$(PYTHON) -m pyright --pythonpath $(PYTHON)

contracts: ## packages import downwards only
	$(dir $(PYTHON))lint-imports

bench: ## time of a whole call, stage by stage, into results/
	$(PYTHON) benchmarks/stages.py --out results/stages.csv

memory: ## memory over a video of 10,000 frames, into results/
	$(PYTHON) benchmarks/memory.py --out results/memory.csv

complexity: ## parameters and multiply-adds of all networks next to the papers', into research/results/
	$(PYTHON) scripts/count_tables.py

docs: ## the site, into site/; a warning is an error
	$(PYTHON) scripts/draw_docs.py && NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build
