# The few commands that people and CI share. Each sets up what it needs.
SHELL := /bin/bash
PYTHON ?= python3
UV_VERSION := 0.13.8
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.locked

.DEFAULT_GOAL := help
.PHONY: help demo images test slow check bench format clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# uv installs exactly what uv.lock names, hashes included.
$(STAMP): uv.lock pyproject.toml
	@test -x .uv/bin/uv || { echo "setting up: uv $(UV_VERSION)"; $(PYTHON) -m venv .uv && .uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); }
	@echo "setting up: packages from uv.lock into $(VENV)"
	@.uv/bin/uv sync --quiet --frozen --all-extras --python "$$(command -v $(PYTHON))"
	@touch $(STAMP)

demo: $(STAMP) ## record, transcribe and caption a real call on this machine; results in demo-output/
	@exec $(BIN)/python -m testbed.demo $(if $(BACKEND),--backend=$(BACKEND)) $(DEMO_ARGS)

images: ## build the container images (BASE=debootstrap without a registry); then make demo BACKEND=docker
	@BASE="$(BASE)" BUILD_CA="$(BUILD_CA)" images/build.sh

test: $(STAMP) ## the tests that need nothing but this machine (under 5 minutes)
	@$(BIN)/pytest -m "not slow" $(TEST_ARGS)

slow: $(STAMP) ## the slower tests: deliberate faults in whole calls (some minutes)
	@$(BIN)/pytest -m slow $(TEST_ARGS)

check: $(STAMP) ## formatting, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(STAMP) ## benchmarks: ratios and counters, one JSON line each
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean: ## remove what the commands made
	rm -rf $(VENV) .uv demo-output .demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
