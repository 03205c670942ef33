# `make help` lists what there is to do.
PYTHON ?= $(shell command -v python3.11 >/dev/null 2>&1 && python3.11 -c '' 2>/dev/null && echo python3.11 || (command -v python3.12 >/dev/null 2>&1 && python3.12 -c '' 2>/dev/null && echo python3.12) || echo python3)
# The day as of which this project's own tools are resolved.
TOOLS_AS_OF = 2026-11-20T00:00:00Z
# Where the shell says not to keep bytecode, each of some hundred processes would compile all of Airflow anew.
export PYTHONDONTWRITEBYTECODE =
# Files and output are UTF-8 in every locale. Python reads the path of the checkout in the encoding of the locale.
export PYTHONUTF8 = 1
ifneq (,$(filter C POSIX,$(LC_ALL)))
export LC_ALL = C.UTF-8
endif
# uv does not read the variable of pip, and by default waits twice as long as pip for an index.
ifneq (,$(PIP_INDEX_URL))
export UV_DEFAULT_INDEX ?= $(or $(UV_INDEX_URL),$(PIP_INDEX_URL))
endif
export UV_HTTP_TIMEOUT ?= 15
VENV = .venv
# Pages with tables that cog makes from the series and from docs/results/.
GENERATED = README.md docs/benchmark.md docs/breeze.md docs/bugs.md docs/demonstration.md docs/limit.md docs/operators.md docs/patches.md docs/route-sweep.md docs/testing.md docs/upstream.md \
	$(sort $(wildcard docs/bugs/*.md))
TOOL = $(VENV)/bin/airflow-auth-patches

# The tests of one file share servers and environments, so one worker runs them. The longest files are first.
WORKERS = -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
QUICK = -m 'not airflow and not live' $(WORKERS)
# ARGS may choose among tests (-k); that there is none of one kind is then no failure.
pytest = $(VENV)/bin/python -m pytest -rs --durations=20 $(1) $(ARGS) $(if $(ARGS),|| [ $$? = 5 ])

.DEFAULT_GOAL = help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## make .venv with the tool and all that develops it

# Check the free disk space, in GB; works before anything is installed.
check_space = PYTHONPATH=src $(PYTHON) -m airflow_auth_patches.util.preconditions $(1)
# Print what is wrong and what to do.
tell = printf '%s\n' >&2

$(VENV)/.ready: pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null || { $(tell) \
		"Python 3.11 or 3.12 was not found." \
		"Install one of them, or name it: make setup PYTHON=/path/to/python3.12"; exit 1; }
	@$(call check_space,1)
	@echo "Creating $(VENV) with the tool and what it needs: about 20 seconds if the packages are in uv's cache, one or two minutes if not."
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --retries 1 'uv>=0.7,<1' || { $(tell) \
		"pip could not install uv: see the error above." \
		"Check the network and the package index (PIP_INDEX_URL)."; exit 1; }
	@$(VENV)/bin/uv pip install --python $(VENV)/bin/python --exclude-newer $(TOOLS_AS_OF) --editable '.[live]' \
		--group dev || { $(tell) \
		"uv could not install the packages: see the error above." \
		"Check the network, the package index (UV_DEFAULT_INDEX, SSL_CERT_FILE)" \
		"and the permissions of uv's cache (UV_CACHE_DIR)." \
		"Without a network, if they are in the cache: make setup UV_OFFLINE=1"; exit 1; }
	@touch $@

needs-git:
	@command -v git >/dev/null || { $(tell) "git was not found." "Install it, or put it on PATH."; exit 1; }

demo: setup ## boot real API servers, stock and patched, and show five bugs and their cures in minutes
	$(TOOL) demo

demo-all: setup ## all scenarios on all their releases, about an hour
	$(TOOL) demo --all

test: needs-git setup ## what CI runs: tests of the tool, of each patch on a pair, and of live servers
	@$(call check_space,2)
	@echo "The tests of the patches in Airflow environments, of live servers, and of the tool: about 17 minutes on"
	@echo "two cores. Only those of the tool: make test-quick."
	$(call pytest,-m 'not slow' $(WORKERS))

test-all: needs-git setup ## all tests: more pairs, Python 3.12, and the mutants of each patch too
	@$(call check_space,4)
	@echo "About 45 minutes on two cores."
	$(call pytest,$(WORKERS))

test-quick: needs-git setup ## the tool's own tests only, without Airflow environments
	@$(call check_space,1)
	@echo "The tool's own tests, about 6 minutes on two cores."
	$(call pytest,$(QUICK))

lint: setup ## ruff, mypy, shellcheck, the generated tables and lint-upstream
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/shellcheck --external-sources breeze-scripts/*
	$(VENV)/bin/cog --check --diff $(GENERATED)
	$(TOOL) lint-upstream

lint-upstream: setup ## ruff and mypy with upstream's settings: ARGS=--all for every form, '--checkout PATH' for its hooks
	$(TOOL) lint-upstream $(ARGS)

test-upstream: setup ## the provider's own tests, stock and patched, a pair of each minor, or PAIR=3.3.2+3.10.2
	$(TOOL) test-upstream $(if $(PAIR),--pair $(PAIR))

test-matrix: setup ## the unit tests on every pair of releases; resumable: make test-matrix ARGS='-k 3.3.2+3.8.0'
	$(VENV)/bin/python -m pytest tests/matrix/cells.py -v -ra -n auto -o junit_family=xunit1 --junitxml=build/matrix/report.xml $(ARGS)

check: setup ## the lint of the series
	$(TOOL) check

tree: setup ## import a release and its patches into a git tree: make tree RELEASE=apache-airflow-core==3.3.2
	$(TOOL) tree $(RELEASE)

refresh: setup ## export the commits of that tree to patches/: make refresh RELEASE=...
	$(TOOL) refresh $(RELEASE)

docs: setup ## write the tables of the documents from the series and the recorded results
	$(VENV)/bin/cog -r $(GENERATED)

limit: setup ## measure what each patch adds to the limit, into docs/results/limit.json
	$(VENV)/bin/python -m airflow_auth_patches.demo.limit_comparison docs/results/limit.json
	$(VENV)/bin/cog -r docs/limit.md

bench: setup ## measure stock, plugin and patches under load, for docs/benchmark.md: 45 minutes on a quiet machine
	$(TOOL) bench --record docs/results/bench.json $(ARGS)
	$(VENV)/bin/python -m airflow_auth_patches.demo.bench_figure docs/results/bench.json docs/images/bench.svg
	$(VENV)/bin/cog -r docs/benchmark.md

figure: setup ## draw docs/images/ui-load.svg from the recorded result docs/results/ui-load.json
	$(VENV)/bin/python -m airflow_auth_patches.demo.figure docs/results/ui-load.json docs/images/ui-load.svg

lag-figure: setup ## draw docs/images/table-locked.svg from the recorded result docs/results/table-locked.json
	$(VENV)/bin/python -m airflow_auth_patches.demo.lag_figure docs/results/table-locked.json docs/images/table-locked.svg

clean: ## remove what was built, and .venv
	rm -rf build dist $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

# `docs` is a folder too.
.PHONY: help needs-git docs bench limit setup demo demo-all test test-all test-quick test-upstream test-matrix lint lint-upstream check tree refresh figure lag-figure clean
