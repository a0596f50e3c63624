# Targets for people. Everything is installed into .venv from requirements.lock; nothing needs root or Docker.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
OUT ?= var/demo-reports
# One more than the cores of a small machine: some tests wait for other processes.
WORKERS ?= 3

COUNTERPARTS := offgridflow_pipeline_tests/counterparts

.PHONY: demo dev test counterparts lint bench openapi lock clean

demo: $(INSTALLED)  ## Install, run the main job on generated bills, print where the reports are
	$(BIN)/offgridflow demo --out $(OUT)

dev: $(INSTALLED)  ## PostgreSQL, portal, API, Dagster UI and daemon in one command; Ctrl-C stops everything
	$(BIN)/offgridflow dev

test: $(INSTALLED) counterparts  ## Install, run every test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

counterparts:  ## Servers that some tests talk to: Azure Blob Storage (needs npm), BigQuery, localstripe; without them those tests skip
	@sh $(COUNTERPARTS)/install_from_lock.sh bqemulator > /dev/null || echo "BigQuery emulator not installed: its tests skip"
	@sh $(COUNTERPARTS)/install_from_lock.sh localstripe > /dev/null || echo "localstripe not installed: its tests skip"
	@if command -v npm > /dev/null; then sh $(COUNTERPARTS)/install_azurite.sh > /dev/null || echo "azurite not installed: its tests skip"; \
	 else echo "npm not found: tests against azurite skip"; fi

lint: $(INSTALLED)  ## Formatting, lint, types, import contracts, Dagster definitions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/offgridflow factors verify
	$(BIN)/dagster definitions validate -w workspace.yaml

bench: $(INSTALLED)  ## CPU seconds, wall seconds and peak memory of `offgridflow estimate`; CPU of one API read; Stripe's events per second
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.requests
	$(BIN)/python -m benchmarks.billing

$(INSTALLED): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q offgridflow_pipeline
	touch $@

openapi: $(INSTALLED)  ## The API's OpenAPI document as it is now; read the difference before you check it in
	$(BIN)/python -m offgridflow_pipeline.sidecar > docs/openapi.json.new && mv docs/openapi.json.new docs/openapi.json

lock:  ## Resolve pyproject.toml again (needs uv)
	uv pip compile -q pyproject.toml --extra dev --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-header --no-annotate --python-version 3.11 --universal -o requirements.lock

clean:
	rm -rf $(VENV) var .counterparts
