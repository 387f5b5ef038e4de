# Every target sets up by itself: Python >= 3.11 and make are all a machine needs.
# PYTHON=/path/to/python chooses the interpreter; pip is used as it is configured.
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup demo test check format bench picture lock clean

PYTHON ?=
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.core-installed
DEV := $(VENV)/.dev-installed
NODE_DIR := tests/e2e/node
NODE := $(NODE_DIR)/node_modules/.installed
PIP_INSTALL := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

help:
	@echo "make demo     one call, all the way (ARGS=--auto answers by itself)"
	@echo "make test     all tests"
	@echo "make check    format, lint, types on three platforms, layers, schemas, docs"
	@echo "make bench    direct, through the guard, through a naive proxy: as ratios"
	@echo "make setup    only install, into $(VENV)"
	@echo "make format   rewrite the tree: layout, fixable findings, generated schemas"
	@echo "make picture  draw docs/demo.svg from a real run of the demo"
	@echo "make lock     compile requirements/*.lock anew"
	@echo "make clean    remove $(VENV), caches and installed node packages"

setup: $(CORE)

demo: $(CORE)
	@$(BIN)/mcp-guard demo $(ARGS)

test: $(DEV) $(NODE)
	$(BIN)/python -m pytest -n 3 --dist loadfile $(ARGS)

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32
	$(BIN)/mypy --platform darwin
	$(BIN)/lint-imports
	$(BIN)/python -m mcp_guard.cli.schemas --check
	$(BIN)/python -m pytest --quiet tests/docs

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python -m mcp_guard.cli.schemas

bench: $(DEV)
	$(BIN)/python -m benchmarks.run $(ARGS)
	$(BIN)/python -m benchmarks.masking
	$(BIN)/python -m benchmarks.approve
	$(BIN)/python -m benchmarks.console

picture: $(DEV)
	$(BIN)/python docs/picture.py

lock: $(DEV)
	$(COMPILE) pyproject.toml requirements/build.in --output-file requirements/core.lock
	$(COMPILE) --constraint requirements/core.lock --extra dev --extra http \
		pyproject.toml requirements/build.in --output-file requirements/dev.lock
	cd $(NODE_DIR) && npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund

clean:
	rm -rf $(VENV) $(NODE_DIR)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# One interpreter that is new enough and can make virtual environments; a name on PATH may be an empty shim, so it is run.
$(BIN)/python:
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3 python; do \
		if "$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			echo "setting up $(VENV) with $$("$$python" --version)"; \
			exec "$$python" -m venv --clear $(VENV); \
		fi; \
	done; \
	echo "mcp-guard needs Python 3.11 or newer with its venv module, and found none on PATH." >&2; \
	echo "hint: install python3 (on Debian and Ubuntu also python3-venv), or run make PYTHON=/path/to/python" >&2; \
	exit 1

$(CORE): requirements/core.lock pyproject.toml | $(BIN)/python
	@echo "installing requirements/core.lock (about a minute, the first time only)"
	@$(PIP_INSTALL) --require-hashes -r requirements/core.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): requirements/dev.lock pyproject.toml | $(BIN)/python
	@echo "installing requirements/dev.lock (about a minute, the first time only)"
	@$(PIP_INSTALL) --require-hashes -r requirements/dev.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@ $(CORE)

$(NODE): $(NODE_DIR)/package-lock.json $(NODE_DIR)/install.py | $(DEV)
	@$(BIN)/python $(NODE_DIR)/install.py
