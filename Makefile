# Every target works as the first command after `git clone`: what it needs and does not find, it sets up.
# `make help` lists the targets.

PYTHON ?= python3
PORT ?= 3128
STATE ?= .state
POLICY ?= starter
UV ?= uv

BIN := .venv/bin
READY := .venv/ready
SDK := .venv-sdk
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq install --no-deps
# A Python that was named by whoever called make is held to; the default one matters only when .venv has to be made.
NAMED := $(if $(filter file default undefined,$(origin PYTHON)),,yes)

.DEFAULT_GOAL := help

.PHONY: help
help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

# INVARIANT: .venv/ready is written last and removed first, so a half-made .venv is never taken for a whole one. It
# names the checkout (a copied .venv points at the place it came from), the locked set, and the Python.
.PHONY: setup
setup: ## make .venv with everything in it, from the lock (about a minute, once)
	@version=$$($(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || version=; \
	inputs=$$(cat requirements-dev.lock pyproject.toml | cksum); \
	old_place=; old_inputs=; old_version=; \
	if [ -f $(READY) ]; then { read -r old_place; read -r old_inputs; read -r old_version; } < $(READY); fi; \
	whole=yes; \
	if [ "$$old_place" != "$(CURDIR)" ]; then whole=; fi; \
	if [ -n "$(NAMED)" ] && [ "$$old_version" != "$$version" ]; then whole=; fi; \
	if [ -n "$$whole" ] && [ "$$old_inputs" = "$$inputs" ]; then exit 0; fi; \
	if [ -z "$$whole" ] && ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then \
		if [ -n "$$version" ]; then has="\`$(PYTHON)\` is $$version"; else has="\`$(PYTHON)\` does not run"; fi; \
		echo "egress needs Python 3.12 or later, and $$has: install Python 3.13 (\`pyenv install 3.13\`, or your" \
			"system's python3.13 and python3.13-venv), then call make with PYTHON=python3.13" >&2; \
		exit 1; \
	fi; \
	set -e; \
	rm -f $(READY); \
	if [ -z "$$whole" ]; then \
		echo "setting up .venv with Python $$version (once, about a minute)"; \
		rm -rf .venv; $(PYTHON) -m venv .venv; \
	else \
		version=$$old_version; echo "bringing .venv up to date"; \
	fi; \
	$(PIP) --require-hashes -r requirements-dev.lock; \
	PYTHONWARNINGS=ignore $(PIP) --no-build-isolation --editable .; \
	printf '%s\n%s\n%s\n' "$(CURDIR)" "$$inputs" "$$version" > $(READY).part; \
	mv $(READY).part $(READY)

.PHONY: run
run: setup ## start the proxy on 127.0.0.1:3128 (PORT=) with the shipped policy `starter` (POLICY=)
	@$(BIN)/egress run --policy $(POLICY) --listen 127.0.0.1:$(PORT) --state-dir $(STATE)

.PHONY: lint
lint: setup ## ruff, types, import contracts
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-cache > .venv/lint-imports.txt || { cat .venv/lint-imports.txt; exit 1; }

# The clouds' SDKs are clients of the sandbox, and need other versions than the proxy. As above, `ready` is written last
# and removed first.
.PHONY: sdk
sdk: setup ## make .venv-sdk with the clouds' SDKs that tests/sdk runs, from its lock (half a minute, once)
	@inputs="$(CURDIR) $$(cat tests/sdk/requirements.lock $(READY) | cksum)"; \
	if [ "$$(cat $(SDK)/ready 2>/dev/null)" = "$$inputs" ]; then exit 0; fi; \
	set -e; \
	echo "setting up $(SDK) (once, half a minute)"; \
	rm -rf $(SDK); \
	$(BIN)/python -m venv $(SDK); \
	$(SDK)/bin/python -m pip --disable-pip-version-check -qq install --no-deps --require-hashes \
		-r tests/sdk/requirements.lock; \
	echo "$$inputs" > $(SDK)/ready.part; \
	mv $(SDK)/ready.part $(SDK)/ready

.PHONY: test
test: lint system sdk ## everything: lint, types, import contracts, unit and end-to-end tests
	@$(BIN)/python tests/tools/run_suite.py

.PHONY: check
check: lint ## the fast part: lint, types, import contracts, tests that start no proxy
	@$(BIN)/pytest -m "not e2e"

.PHONY: system
system: setup
	@$(BIN)/python tests/tools/system_packages.py

SECONDS ?= 300

# `make test` replays the committed corpus and runs each fuzzer for a moment; this goes on looking.
.PHONY: fuzz
fuzz: system ## the fuzzers, SECONDS=300 each (FUZZ= names some of them); needs root for the listener
	@PYTHONPATH=tests:tests/e2e $(BIN)/python -m fuzz.run --seconds $(SECONDS) $(FUZZ)

# The clients of Python and npm go to .compat, which stays for the next time.
.PHONY: compat
compat: system ## every client by every road, 3 minutes; writes docs/compatibility.md; CLIENTS= some, nothing is written
	@PYTHONPATH=tests:tests/e2e $(BIN)/python -m compat.make $(CLIENTS)

.PHONY: crash
crash: setup ## the writer of the audit killed with -9 under load, 100 times (KILLS=)
	@EGRESS_KILLS=$(or $(KILLS),100) $(BIN)/pytest tests/audit/test_faults.py -k kill_9

.PHONY: bench
bench: setup ## ours and the peers, up to 25 minutes, writes docs/performance.md; QUICK=1: 4 minutes, printed only
	@$(BIN)/python -m bench.run $(if $(QUICK),--quick)

.PHONY: bench-check
bench-check: setup ## ours beside squid, against the recorded ratios; RECORD=1 records them
	@$(BIN)/python -m bench.run --check $(if $(RECORD),--record)

.PHONY: bench-policy
bench-policy: setup ## policies of 10 rules to lists of 100,000: loading, memory, decisions, and a reload under load
	@$(BIN)/python bench/policy.py

MINUTES ?= 30
SANDBOXES ?= 50

# Not part of CI, for its length; tests/bench runs a short one.
.PHONY: soak
soak: setup ## mixed traffic of SANDBOXES=50 through the gateway for MINUTES=30, and what leaks; needs root
	@$(BIN)/python -m bench.soak --minutes $(MINUTES) --sandboxes $(SANDBOXES)

.PHONY: bench-roads
bench-roads: setup ## CONNECT, SOCKS5 and redirected connections beside each other, and DNS: 2 minutes; needs root
	@$(BIN)/python -m bench.roads

.PHONY: fmt
fmt: setup ## format, and mend what ruff can mend by itself
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# The override takes h2 past mitmproxy's own bound, to the version without CVE-2026-71554. UPGRADE=--upgrade takes
# newer versions; without it only what pyproject.toml changed is changed.
LOCK := pip compile --quiet --universal --generate-hashes --no-header --no-annotate --override overrides.txt \
	--python-version 3.12 pyproject.toml $(UPGRADE)
SDK_LOCK := pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.12 \
	tests/sdk/requirements.in $(UPGRADE) -o tests/sdk/requirements.lock

.PHONY: lock
lock: ## write the locks anew from pyproject.toml (needs uv; UV= names it)
	@command -v $(UV) > /dev/null || { echo "make lock needs uv: install it, or name it with UV=" >&2; exit 1; }
	@$(UV) $(LOCK) -o requirements.lock > /dev/null
	@$(UV) $(SDK_LOCK) > /dev/null
	@$(UV) $(LOCK) --extra dev -c requirements.lock -o requirements-dev.lock > /dev/null

.PHONY: clean
clean: ## remove .venv, .venv-sdk and caches; the state folder stays
	@rm -rf .venv $(SDK) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .compat build dist egress.egg-info
