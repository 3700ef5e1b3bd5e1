# The few commands that people and CI share. Each sets up what it needs.
SHELL := /bin/bash
PYTHON ?= python3
UV_VERSION := 0.13.8
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.locked

.DEFAULT_GOAL := help
.PHONY: help demo images wheelhouse bundle test slow test-kubernetes check audit fuzz bench bench-recorder bench-speech bench-accuracy test-model format docs clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# uv installs exactly what uv.lock names, hashes included.
$(STAMP): uv.lock pyproject.toml
	@test -x .uv/bin/uv || { echo "setting up: uv $(UV_VERSION)"; $(PYTHON) -m venv .uv && .uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); }
	@echo "setting up: packages from uv.lock into $(VENV)"
	@.uv/bin/uv sync --quiet --frozen --all-extras --python "$$(command -v $(PYTHON))"
	@touch $(STAMP)

demo: $(STAMP) ## record, transcribe and caption a real call on this machine; results in demo-output/ (RTCD_URL=http://… for another SFU; BACKEND=docker, celery; SERVE=1: stay, and join in a browser, from elsewhere with HOST=ADDRESS)
	@exec $(BIN)/python -m testbed.demo $(if $(BACKEND),--backend=$(BACKEND)) $(if $(SERVE),--serve) $(if $(filter command line,$(origin HOST)),--host=$(HOST)) $(DEMO_ARGS)

images: ## build the container images (BASE=debootstrap without a registry; MODELS="tiny base", MODELS_DIR=…); then make demo BACKEND=docker
	@BASE="$(BASE)" BUILD_CA="$(BUILD_CA)" MODELS="$(MODELS)" MODELS_DIR="$(MODELS_DIR)" images/build.sh

wheelhouse: $(STAMP) ## fetch every package of the images, by hash; they are built without network then (PLATFORM=linux/arm64)
	@test -x .uv/bin/pip || $(PYTHON) -m venv .uv
	@images/wheelhouse.sh .uv

bundle: $(STAMP) ## one signed archive for hosts without a network, in dist/ (SIGN_KEY=… MODELS_DIR=…); after make wheelhouse images
	@packaging/bundle.sh $(if $(SIGN_KEY),--sign-key "$(SIGN_KEY)") $(if $(MODELS_DIR),--models "$(MODELS_DIR)") $(BUNDLE_ARGS)

# Compiled tests and modules are kept: each of the workers, and each process that a test starts, would compile them again.
# The first time two processes compile them, a half each, before every worker would do it for all of them.
COMPILED := $(VENV)/.compiled
$(COMPILED): $(STAMP)
	@unset PYTHONDONTWRITEBYTECODE; collect="$(BIN)/pytest --collect-only -qq -n 0 -p no:cacheprovider"; \
		$$collect tests/offloader >/dev/null & $$collect --ignore tests/offloader tests >/dev/null; wait
	@touch $(COMPILED)

test: $(COMPILED) ## the tests that need nothing but this machine (under 5 minutes)
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest -m "not slow" -n auto --dist loadfile --no-loadscope-reorder $(TEST_ARGS)

# Each of the workers would read in all tests, to leave out nine of ten: only files that say `slow` hold any.
slow: $(COMPILED) ## the slower tests: deliberate faults in whole calls (some minutes)
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest $$(grep -rlw slow tests --include='test_*.py') -m slow -n 4 --dist loadfile --no-loadscope-reorder $(TEST_ARGS)

test-kubernetes: $(STAMP) ## the backend contract on a real cluster: KUBECONFIG=… K8S_TEST_CLAIM=… K8S_TEST_CLAIM_DIR=…
	@K8S_TEST=1 $(BIN)/pytest -n 0 --timeout 120 -k kubernetes tests/contract/test_backend_contract.py $(TEST_ARGS)

check: $(STAMP) ## formatting, lint, types, import contracts, weaknesses
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(MAKE) --no-print-directory audit

audit: $(STAMP) ## weaknesses in the code, secrets in the files, known holes in the packages of the lock file (part of make check)
	@UV_PROJECT_ENVIRONMENT=.venv-security .uv/bin/uv sync --quiet --frozen --only-group security --python "$$(command -v $(PYTHON))"
	@tools/audit.sh .venv-security/bin

fuzz: $(STAMP) ## parsers of foreign bytes, guided by coverage (TARGET="stun sdp", else all; MINUTES=10; what it finds is in .fuzz/)
	@UV_PROJECT_ENVIRONMENT=.venv-fuzz .uv/bin/uv sync --quiet --frozen --all-extras --group fuzz --python "$$(command -v $(PYTHON))"
	@.venv-fuzz/bin/python -m tests.fuzz $(TARGET) --minutes $(or $(MINUTES),10) $(FUZZ_ARGS)

format: $(STAMP) ## format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench-recorder: $(STAMP) ## what a recorded second costs, beside a browser and ffmpeg (xvfb, chromium, ffmpeg; 6 minutes)
	@$(BIN)/python -m benchmarks.recorder_cost $(BENCH_ARGS)

bench-speech: $(STAMP) ## what the transcriber adds to its model's work, beside whisper.cpp (from PyPI; ~8 minutes)
	@$(BIN)/python -m benchmarks.speech_cost $(BENCH_ARGS)

bench-accuracy: $(STAMP) ## word errors, times and speakers on made-up meetings (needs libespeak-ng1; ~8 minutes)
	@$(BIN)/python -m benchmarks.speech_accuracy $(BENCH_ARGS)

test-model: $(STAMP) ## a model on recordings with texts: MODELS_DIR=… MODEL_ARGS="--model small FILE…"
	@$(BIN)/python -m benchmarks.speech_accuracy.trial --models-dir $(or $(MODELS_DIR),models) $(MODEL_ARGS)

bench: $(STAMP) ## benchmarks: ratios and counters, one JSON line each
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

docs: $(STAMP) ## the documentation as a site, in site/ (mkdocs-material, in an environment of its own)
	@UV_PROJECT_ENVIRONMENT=.venv-docs .uv/bin/uv sync --quiet --frozen --only-group docs --python "$$(command -v $(PYTHON))"
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

clean: ## remove what the commands made
	rm -rf $(VENV) .venv-docs .venv-fuzz .venv-security .uv .fuzz site demo-output .demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
