# The first Python 3.11 to 3.13 on the path; `make PYTHON=python3.12 ...` chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"

.PHONY: help demo example test test-wheel test-postgres-15 attack-audit bench-webhook bench-lifecycle bench-audit bench-media bench-search bench-disclosures bench-lists bench-insights live whisper drill faults soak simulate times check format schema reasons migration lock clean

help:
	@echo "make demo          one consultation through the whole stack, then serve until Ctrl-C (ONCE=1: end)"
	@echo "make example       install, generate and type-check examples/typescript, where npm is (DEMO=report.json: and run it)"
	@echo "make test          all tests"
	@echo "make test-wheel    install the wheel into an empty environment and run its commands"
	@echo "make test-postgres-15  those that meet the database, on Debian's Postgres 15, where it is installed"
	@echo "make live          against a real LiveKit server, where Go can install it"
	@echo "make whisper       install a real Whisper for the dev stack, and test it: 125 MB of downloads (docs/whisper.md)"
	@echo "make drill         back a small practice up and restore it, keys, recordings and all (docs/restore.md)"
	@echo "make faults        LiveKit, the network and the infrastructure fail; a table of what became of each recording"
	@echo "make times         when turns start, with all wrong times and noises that the stand-in can answer (docs/benchmarks.md)"
	@echo "make simulate      two years of keeping and destroying, 5,000 consultations, judged by an oracle (docs/simulation.md)"
	@echo "make soak          10,000 sequences of users, events, deaths and passes against the laws of a recording"
	@echo "make attack-audit  attack a sealed audit log as the superuser of its database, and audit it; SHORT=1 for a few (docs/audit-attacks.md)"
	@echo "make bench-webhook  the webhook beside a bare insert of the same row (docs/benchmarks.md)"
	@echo "make bench-lifecycle  destroying 100,000 due recordings beside bare deletions (docs/benchmarks.md)"
	@echo "make bench-media  hearing recordings of two minutes to four hours beside a bare decode (docs/benchmarks.md)"
	@echo "make bench-search  a search in 10,000 encrypted transcripts beside full-text search in clear (docs/benchmarks.md)"
	@echo "make bench-audit  pages of the audit log for each filter, the cost of sealing, and offline verification; ROWS=5M for more (docs/benchmarks.md)"
	@echo "make bench-disclosures  the accounting of a patient with 10,000 disclosures (docs/benchmarks.md)"
	@echo "make bench-lists  the first pages of a doctor with 60,000 recordings beside those of a doctor with 50 (docs/benchmarks.md)"
	@echo "make bench-insights  the extractive writer and the checker of insights on consultations by others; DATA=DIR names them (docs/benchmarks.md)"
	@echo "make check         format, lint, types, import rules, SQL lint"
	@echo "make format        format the code"
	@echo "make schema        export graphql_schema/schema.graphql"
	@echo "make reasons       generate docs/reasons.md from app/texts/reasons.toml"
	@echo "make migration     generate supabase/migrations/*_initial.sql from supabase/schemas"
	@echo "make lock          resolve the locks anew (needs uv)"
	@echo "make clean         remove .venv and .devstack"

demo: $(INSTALLED)
	$(BIN)/resguardo demo $(if $(ONCE),--once)

# Where npm is; DEMO is what `resguardo demo --json` wrote of a demo that runs.
example:
	@if command -v npm >/dev/null; then \
		cd examples/typescript && npm ci --ignore-scripts --loglevel=error && npm run generate && npm run check \
		$(if $(DEMO),&& npm run smoke -- $(abspath $(DEMO))); \
	else echo "npm is not installed: the TypeScript example is not checked"; fi

# Installs with pip from its index, so it needs the network.
test-wheel: $(INSTALLED)
	$(BIN)/python -m tests.wheel

test: $(INSTALLED)
	$(BIN)/pytest -n auto --dist worksteal

# The tests that use the database, on Debian's Postgres 15; nothing where that is not installed. SHORT leaves out the API's.
POSTGRES_15 := /usr/lib/postgresql/15/bin
test-postgres-15: $(INSTALLED)
	@if test -x $(POSTGRES_15)/postgres; then \
		PG_BIN=$(POSTGRES_15) $(BIN)/pytest -n auto --dist worksteal tests/policies tests/migrations $(if $(SHORT),,tests/api); \
	else echo "$(POSTGRES_15) is not there: nothing to test on it"; fi

live: $(INSTALLED)
	$(BIN)/python -m tests.live

# SHORT gives the installation a minute and goes on without it: then it says why, and the tests are fewer.
whisper: $(INSTALLED)
	@if $(if $(SHORT),timeout 60) $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--requirement requirements-whisper.lock; then \
		$(BIN)/pytest tests/integration/test_recognisers.py $(if $(SHORT),-k "whisper and short"); \
	else $(if $(SHORT),echo "make whisper: skipped: it was not installed within a minute",exit 1); fi

drill: $(INSTALLED)
	$(BIN)/python -m tests.drill

faults: $(INSTALLED)
	$(BIN)/python -u -m tests.faults --only "$(ONLY)"

times: $(INSTALLED)
	ALL_TIMES=1 $(BIN)/pytest -s tests/integration/test_times.py

simulate: $(INSTALLED)
	$(BIN)/python -u -m tests.simulation

soak: $(INSTALLED)
	$(BIN)/python -m tests.faults.soak

# SHORT attacks one of each kind.
attack-audit: $(INSTALLED)
	$(BIN)/python -u -m tests.attack_audit $(if $(SHORT),--short)

bench-webhook: $(INSTALLED)
	$(BIN)/python -m benchmarks.webhook

bench-lifecycle: $(INSTALLED)
	$(BIN)/python -m benchmarks.lifecycle

bench-media: $(INSTALLED)
	$(BIN)/python -m benchmarks.media

bench-search: $(INSTALLED)
	$(BIN)/python -m benchmarks.search

bench-audit: $(INSTALLED)
	$(BIN)/python -m benchmarks.audit $(if $(ROWS),--rows $(ROWS))

bench-disclosures: $(INSTALLED)
	$(BIN)/python -m benchmarks.disclosures

bench-lists: $(INSTALLED)
	$(BIN)/python -m benchmarks.lists

# Exits with 0 where no data is found: they are not part of the project.
bench-insights: $(INSTALLED)
	@$(BIN)/python -m benchmarks.insights $(if $(DATA),--data $(DATA))

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sqlfluff lint supabase policies app

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schema: $(INSTALLED)
	$(BIN)/resguardo schema > graphql_schema/schema.graphql

reasons: $(INSTALLED)
	$(BIN)/resguardo reasons > docs/reasons.md

# Until the first release. Afterwards: resguardo migrations new NAME
migration: $(INSTALLED)
	$(BIN)/resguardo migrations initial

$(INSTALLED): requirements-dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed, and none is on the path."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "No virtual environment: install Python's venv module (Debian: python3-venv)."; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

lock:
	$(COMPILE) pyproject.toml --output-file requirements.lock
	$(COMPILE) pyproject.toml --group devstack --group dev --constraint requirements.lock \
		--output-file requirements-dev.lock
	$(COMPILE) --group live --constraint requirements-dev.lock --output-file requirements-live.lock
	$(COMPILE) --group whisper --constraint requirements-dev.lock --output-file requirements-whisper.lock

clean:
	rm -rf $(VENV) .devstack
