# What people do with this project. It needs Python 3.11 to 3.13, git and make; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
RUN_TOOLS := .venv/run-tools.stamp
TEST_TOOLS := .venv/test-tools.stamp

# Those that need no outside data. SAHI, where it is compared with, is installed by hand: see their first lines. The last
# two take the sample's prepared data and model. prediction_speed.py needs SAHI in any case.
BENCHMARKS := start_up prepare_speed loading_speed training_speed evaluation_speed growth simulation_speed pod_coverage \
	runtimes equal_accuracy

# The long versions of docs/reliability.md. fuzzing.py needs Atheris, installed by hand: see its first lines.
SOAKS := reliability_kills reliability_server soak

# The stages of dvc.yaml say `python`, which has to be the one of .venv.
export PATH := $(CURDIR)/$(BIN):$(PATH)

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1 - /p' Makefile

repro: $(RUN_TOOLS) | data ## Set up, simulate the sample where data/ is missing, run the pipeline, name the report
	$(BIN)/dvc repro
	@echo "Report: $(CURDIR)/artifacts/report/index.html"

test: $(TEST_TOOLS) ## Set up, then lint, types, import contract and tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

bench: $(TEST_TOOLS) repro ## Measure speed and growth (hours on 2 cores); figures go to benchmarks/results.json
	@for name in $(BENCHMARKS); do echo "$$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

soak: $(TEST_TOOLS) ## Kill, interrupt and look for growth at length (two hours on 2 cores, 10 GB below TMPDIR); as bench
	@for name in $(SOAKS); do echo "$$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

ui: $(RUN_TOOLS) ## Open MLflow's page on the runs of this folder
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db

lock: ## For maintainers: solve the dependencies of pyproject.toml anew (needs Poetry with its export plugin)
	poetry lock
	poetry export --quiet --format requirements.txt --output requirements.txt
	poetry export --quiet --format requirements.txt --with dev --output tests/requirements.txt

clean: ## Remove .venv and everything that the stages wrote; data/, mlflow.db and mlruns/ stay
	rm -rf .venv artifacts

# Only where there is no data/ at all: it may be somebody's own. DVC takes it into its cache if data.dvc names it.
data: | $(RUN_TOOLS)
	$(BIN)/python -m defects_in_welds simulate --out $@
	@$(BIN)/dvc commit data.dvc </dev/null >/dev/null 2>&1 || { \
		rm -rf $@; \
		echo "data.dvc does not name the simulated sample: get the data that it names with 'dvc pull'." >&2; \
		exit 1; \
	}

# A stamp is written last, so that an interrupted installation is done again.
$(RUN_TOOLS): requirements.txt pyproject.toml
	$(call install,requirements.txt)
	@touch $@

$(TEST_TOOLS): tests/requirements.txt pyproject.toml
	$(call install,tests/requirements.txt)
	@touch $@ $(RUN_TOOLS)

define install
@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	echo "$(PYTHON) is missing or is not Python 3.11, 3.12 or 3.13: name one, as in 'make PYTHON=python3.12'." >&2; \
	exit 1; \
}
$(PYTHON) -m venv .venv
$(BIN)/pip install --quiet --require-hashes --requirement $(1)
$(BIN)/pip install --quiet --no-deps --editable .
endef

.PHONY: help repro test bench soak ui lock clean
