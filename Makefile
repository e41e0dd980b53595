# The tasks of this repository. Each one installs what it needs below .cache, from the locks in
# requirements/ and package-lock.json. Needed before: Python 3.10+, git; for the tests Node.js 20+.

PYTHON ?= python3
CACHE := .cache
UV := $(CACHE)/uv/bin/uv
DEV := $(CACHE)/dev
BIN := $(DEV)/bin
DBTS := dbt-1.11 dbt-1.12 dbt-postgres dbt-spark
TOOLS := $(DBTS) dbt-v2 datapilot
WORKFLOWS := action.yml .github/workflows/*.yml

# Half as many again as processors: with act and package indexes, tests wait for a part of their time.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) '*' 3 / 2)

.PHONY: demo test test-fast benchmark lint format schema pictures lock clean environments

demo: $(CACHE)/demo.done  ## Play a pull request on an embedded DuckDB project.
	@$(CACHE)/demo/bin/ci-defer demo

test: environments  ## All tests, with real dbt and the real action.
	$(BIN)/pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

test-fast: $(CACHE)/dev.done  ## The tests that need no dbt, Node.js or server: seconds.
	$(BIN)/pytest -n auto -m "not dbt and not action and not server" $(PYTEST_ARGS)

benchmark: environments  ## Time and memory of a pull request, with ci-defer and without; see --help.
	@$(BIN)/python -m benchmarks $(BENCHMARK_ARGS)

lint: $(CACHE)/dev.done  ## Style, types, shell, workflows, action.yml.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/shellcheck --external-sources action/*.sh benchmarks/hand_written/*.sh .ci/run
	$(BIN)/zizmor --offline --no-progress --persona auditor action.yml .github/
	$(BIN)/check-jsonschema --builtin-schema vendor.github-actions action.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

format: $(CACHE)/dev.done
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

schema: $(CACHE)/dev.done  ## Write docs/report.schema.json from the code.
	$(BIN)/python -c 'import json; from ci_defer.report import schema; print(json.dumps(schema(), indent=2))' >docs/report.schema.json

pictures: $(CACHE)/dev.done $(CACHE)/node.done  ## Golden comments as GitHub shows them; needs Chromium.
	$(BIN)/python -m tests.render tests/golden/*.md --open --to $(CACHE)/pictures

environments: $(CACHE)/dev.done $(TOOLS:%=$(CACHE)/%.done) $(CACHE)/node.done $(CACHE)/drivers/duckdb.toml

lock: $(UV)  ## Make all locks anew.
	$(COMPILE) requirements/uv.in -o requirements/uv.txt
	$(COMPILE) pyproject.toml -o requirements/action.txt
	$(COMPILE) pyproject.toml --group build --extra demo -o requirements/demo.txt
	$(COMPILE) pyproject.toml --group build --group dev -o requirements/dev.txt
	for dbt in $(DBTS); do $(COMPILE) requirements/$$dbt.in -o requirements/$$dbt.txt; done
	$(COMPILE) --only-binary :all: --prerelease allow requirements/dbt-v2.in -o requirements/dbt-v2.txt
	$(COMPILE) $(UNUSED:%=--no-emit-package %) requirements/datapilot.in -o requirements/datapilot.txt
	npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved

COMPILE := $(UV) pip compile --quiet --universal --generate-hashes --python-version 3.10 \
	--custom-compile-command "make lock" --upgrade

# What datapilot requires and does not import, which is most of its size.
UNUSED := sqlglotc cryptography cffi pycparser

clean:
	rm -rf $(CACHE) node_modules

$(UV): requirements/uv.txt
	$(PYTHON) -m venv $(CACHE)/uv
	$(CACHE)/uv/bin/python -m pip install --quiet --require-hashes -r requirements/uv.txt
	touch $@

# One rule for the two environments that hold ci-defer itself. Compiled: they run it often.
$(CACHE)/dev.done $(CACHE)/demo.done: $(CACHE)/%.done: requirements/%.txt pyproject.toml | $(UV)
	$(UV) venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(CACHE)/$*
	$(UV) pip sync --quiet --compile-bytecode --require-hashes --python $(CACHE)/$* $<
	$(UV) pip install --quiet --no-deps --no-build-isolation --python $(CACHE)/$* --editable .
	touch $@

$(TOOLS:%=$(CACHE)/%.done): $(CACHE)/%.done: requirements/%.txt | $(UV)
	$(UV) venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(CACHE)/$*
	$(UV) pip sync --quiet --compile-bytecode --require-hashes --python $(CACHE)/$* $<
	touch $@

$(CACHE)/node.done: package-lock.json
	npm ci --silent --ignore-scripts
	touch $@

# dbt v2 finds its drivers by such files, and would download that of DuckDB. Here is one.
$(CACHE)/drivers/duckdb.toml: $(CACHE)/node.done
	mkdir -p $(@D)
	printf '%s\n' 'manifest_version = 1' 'name = "DuckDB"' 'version = "1.0.0"' '[Driver]' \
		'entrypoint = "duckdb_adbc_init"' '[Driver.shared]' \
		'linux_amd64 = "$(CURDIR)/node_modules/@duckdb/node-bindings-linux-x64/libduckdb.so"' >$@
