# Everything a person does here, in one line each; bare `make` lists it.

PYTHON ?= python3
NS ?= demo
PYTEST_OPTIONS ?=
WORKERS ?= auto
LOCK_OPTIONS ?=
DIR ?= .
DATA ?= .data
# The recipes read these from their environment: a name may hold spaces and quotes.
export DIR NS DATA
# Where `make kafka` serves.
KAFKA_PORT ?= 9092

BIN := .venv/bin
BRIDGE := $(BIN)/omninode-bridge
INSTALLED := .venv/.installed
KAFKA_JARS := tools/kafka/target/lib
# In this repository's own folder: what git does not track, and git.
NOT_OURS := .git .venv .data dist __pycache__ .coverage .hypothesis .import_linter_cache \
            .mypy_cache .pytest_cache .ruff_cache

.DELETE_ON_ERROR:
.PHONY: help run check test lint soak lock wheel diagram asyncapi kafka clean

help: ## Show these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(INSTALLED) ## Stamp the files below a folder [DIR=.] and show their totals [NS=demo]
	@if [ "$$DIR" -ef . ]; then set -- $(addprefix --exclude ,$(NOT_OURS)); fi; \
	  $(BRIDGE) stamp "$$DIR" --namespace "$$NS" --data-dir "$$DATA" "$$@"; status=$$?; \
	  [ $$status -ge 2 ] || $(BRIDGE) show "namespace:$$NS" --data-dir "$$DATA"; exit $$status
	@printf '%s\n' '' 'Try next:' \
	  '  make run                                 again: nothing is counted twice' \
	  '  make check                               what has changed since' \
	  '  make run DIR="a folder of yours" NS=mine' \
	  "  $(BRIDGE) list --namespace '$$NS' --data-dir '$$DATA'" \
	  "  $(BRIDGE) history 'namespace:$$NS' --data-dir '$$DATA'" \
	  '  $(BRIDGE) --help'

check: $(INSTALLED) ## Compare the files below a folder [DIR=.] with their stamps [NS=demo]
	@if [ "$$DIR" -ef . ]; then set -- $(addprefix --exclude ,$(NOT_OURS)); fi; \
	  $(BRIDGE) check "$$DIR" --namespace "$$NS" --data-dir "$$DATA" "$$@"

# A file's tests stay together: they share what its fixtures have started. In the order of the folders
# the long ones come before the unit tests, so that both workers are busy to the end.
test: $(INSTALLED) ## Run all tests but the soak, with coverage [WORKERS=auto] [PYTEST_OPTIONS=]
	$(BIN)/pytest --cov --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder \
	  $(PYTEST_OPTIONS)

lint: $(INSTALLED) ## Check style, types and the arrows between the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

soak: $(INSTALLED) ## Run the tests that take minutes or more
	$(BIN)/pytest -m soak --timeout 0 $(PYTEST_OPTIONS)

# Keeps each version that still fits; LOCK_OPTIONS=--upgrade takes the newest ones.
lock: $(INSTALLED) ## Make requirements.lock from pyproject.toml [LOCK_OPTIONS=--upgrade]
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras \
	  --generate-hashes --no-header --no-emit-index-url $(LOCK_OPTIONS) \
	  --output-file requirements.lock pyproject.toml

wheel: $(INSTALLED) ## Build the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation

diagram: $(INSTALLED) ## Draw docs/architecture/fsm.md from the table of the state machine
	$(BIN)/python -m omninode_bridge.infrastructure.contracts > docs/architecture/fsm.md

asyncapi: $(INSTALLED) ## Write docs/architecture/asyncapi.yaml from the types of the messages
	$(BIN)/python -m omninode_bridge.infrastructure.kafka.asyncapi > docs/architecture/asyncapi.yaml

kafka: $(KAFKA_JARS) ## Serve a Kafka broker until Ctrl-C, data in .data/kafka [KAFKA_PORT=9092]
	@exec tools/kafka/serve $(KAFKA_JARS) "$$DATA/kafka" $(KAFKA_PORT) $$(($(KAFKA_PORT) + 1))

# Copied beside and renamed: half a folder is never taken for a whole one.
$(KAFKA_JARS): tools/kafka/pom.xml
	rm -rf $@ $@.new
	mvn --batch-mode --quiet --file $< -Dlib="$(CURDIR)/$@.new" package
	@mv $@.new $@ && touch $@

clean: ## Remove what make has made, but not the data in .data
	rm -rf .venv dist tools/kafka/target .coverage .coverage.* .hypothesis .import_linter_cache \
	  .mypy_cache .pytest_cache .ruff_cache
	find src tests migrations -name __pycache__ -prune -exec rm -rf {} +

# Only what the lock names, with the hashes it names: it is complete, so nothing is left to resolve
# (older pips resolve an extra to its newest release, and then miss its hash). Our own code is a link
# into src/.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "omninode_bridge needs Python 3.11 or newer. Name one: make PYTHON=/path/to/python3 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps --no-build-isolation --editable .
	@touch $@
