# Everything starts here. A fresh machine needs Python 3.11 or newer with pip, and make; nothing is compiled.
#   make run    sets up, starts everything, prints where it is        make test   sets up and runs every check

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CODE := services gateway cli tests protos
export PYTHONUNBUFFERED := 1

.PHONY: help setup protos run demo test check format bench bench-scale bench-rebuild test-sim lock clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) protos ## Make .venv, install what requirements.lock says, build the contracts

# The stamp stands for the virtual environment: it is made anew only when a dependency or the packaging changes.
$(READY): requirements.lock pyproject.toml protos/hatch_build.py
	@.ci/setup $(VENV)
	@touch $@

protos: $(READY)
	@$(BIN)/python protos/build.py

run: setup ## Start the four services and the gateway on the embedded stores, and say where they are
	@exec $(BIN)/meterline up

demo: setup ## Charge a month of roaming for 10,000 endpoints, print each level's statement, check it
	@exec $(BIN)/meterline demo

WORKERS ?= 2

test: check ## Run every check and every test, with real Valkey, SQLite and PostgreSQL (WORKERS=1: one by one)
	$(BIN)/pytest --numprocesses=$(WORKERS) --dist=worksteal $(PYTEST_ARGS)

check: setup ## Run the checks that start nothing: style, types, architecture, contracts
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python protos/build.py --lint

format: setup ## Format the code and fix what can be fixed safely
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

bench: setup ## Measure charging through gRPC against an empty handler; ends with one line of JSON
	@exec $(BIN)/python -m tests.load.bench

bench-scale: setup ## Measure what a charge costs as an installation grows, to a million endpoints; prints a table
	@exec $(BIN)/python -m tests.load.scale $(SCALE_ARGS)

bench-rebuild: setup ## Measure how long balances of a million endpoints take to be rebuilt; REBUILD_ARGS=--postgresql
	@exec $(BIN)/python -m tests.load.rebuild $(REBUILD_ARGS)

SEEDS ?= 5000
FIRST ?= 0

test-sim: setup ## Simulate 5000 seeds, then run the property tests for long; SEED=... repeats one run, SEEDS, FIRST
ifdef SEED
	$(BIN)/python -m tests.simulation --seed $(SEED)
else
	$(BIN)/python -m tests.simulation --first $(FIRST) --seeds $(SEEDS)
	$(BIN)/pytest -m hypothesis --hypothesis-profile=long --hypothesis-show-statistics --timeout=3000 \
		$(if $(PROPERTY_SEED),--hypothesis-seed=$(PROPERTY_SEED)) $(PYTEST_ARGS)
endif

lock: ## Resolve the bounds of pyproject.toml anew into requirements.lock
	@.ci/setup --lock

clean: ## Remove what was installed and generated; keeps the data folder .meterline
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis htmlcov .coverage*
	find protos/meterline \( -name '*_pb2*.py*' -o -name descriptors.binpb -o -name .built \) -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
