# `make demo` and `make test` set up everything they need, in .venv, on a machine with Python 3.11 and nothing else.

PYTHON ?= python3
BIN := .venv/bin
TENSORS := vergence.losses,vergence.augment,vergence.data,vergence.metrics,vergence.methods,vergence.networks,vergence.engine.evaluate
LOCKED := -m pip install --quiet --require-hashes --requirement
LOCK := uv pip compile pyproject.toml - --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url
BUILD := hatchling\neditables\nsetuptools
JAXTYPING := --jaxtyping-packages=$(TENSORS),shapes.typechecker

# Tests that call, in their own process, what pyproject.toml lists under [tool.coverage.report].
CLOSE := $(addprefix tests/,config data command engine/test_checkpoints.py files papers/test_theorem.py report runs)

.PHONY: help demo bench style test soak coverage mutants check quick format lock clean

help:
	@echo "make demo    train BYOL with and without batch norm on digits, compare, draw a picture (about 3 minutes)"
	@echo "make test    everything: style, types, all tests"
	@echo "make soak    the tests that inject faults, each many more times; writes the tally in docs/reliability.md and README"
	@echo "make coverage  every branch of what reads and writes files is taken by a test (about 2 minutes)"
	@echo "make mutants   small changes of that code that the tests must notice, a sample; needs root (about half an hour; EACH=5: less)"
	@echo "make bench   how fast this machine trains, on its CPU (about 2 minutes); every number in build/bench.json"
	@echo "make check   what to run by habit: style, types, fast tests (about 2 minutes)"
	@echo "make format  apply the style"
	@echo "make lock    add to requirements*.lock what pyproject.toml newly asks for; UPGRADE=--upgrade: everything anew"

# What is installed is what the locks' hashes say, and only wheels, for which no code runs; the project itself is then
# built with what is there, and its loops are compiled, which else the first run would wait for. One package that the
# tests need (by way of lightly) comes as source only: its setup.py runs.
.venv/installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || (echo "error: Python 3.11 or newer is needed; set PYTHON=..." >&2; exit 2)
	@$(PYTHON) -m venv .venv || (echo "error: python3-venv is missing: apt install python3-venv" >&2; exit 2)
	$(BIN)/python $(LOCKED) requirements.lock --only-binary :all:
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable '.[fast]'
	$(BIN)/python -c "from vergence.augment import colours; from vergence.fast import tiles; colours.load(); tiles.load()"
	@touch $@

.venv/developed: .venv/installed requirements-dev.lock
	$(BIN)/python $(LOCKED) requirements-dev.lock --only-binary :all: --no-binary antlr4-python3-runtime --no-build-isolation
	@touch $@

demo: .venv/installed
	$(BIN)/vergence demo --out runs/demo

bench: .venv/installed
	@mkdir -p build
	$(BIN)/vergence bench --device cpu --steps 2 --warmup 2 --rounds 3 --pictures 120 --out build/bench.json

style: .venv/developed
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/basedpyright

# Shapes in signatures are checked while the tests run; the compiler cannot see through that check, so its tests, and
# those that kill processes and measure nothing of shapes, run without it. Some wait: three at a time keep two cores busy.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadgroup

test: style
	$(PYTEST) $(JAXTYPING) -m "not unshaped"
	$(PYTEST) -m unshaped

# Every file of tests that counts what it survives. A failure ends it before anything is written.
soak: .venv/developed
	@mkdir -p build && rm -f build/tally.jsonl
	VERGENCE_SOAK=$${VERGENCE_SOAK:-1} VERGENCE_TALLY=$(CURDIR)/build/tally.jsonl \
		$(PYTEST) -p no:randomly $$(grep -rlE "^(import|from) soak" tests --include "test_*.py")
	$(BIN)/python tests/support/soak.py docs/reliability.json build/tally.jsonl

coverage: .venv/developed
	@mkdir -p build
	$(BIN)/python -m coverage run -m pytest -p no:randomly -m "not slow and not unshaped" $(CLOSE)
	$(BIN)/python -m coverage report

# SEED draws another sample, EACH is how many changes of each module are tried.
mutants: .venv/developed
	$(BIN)/python tests/support/mutants.py docs/mutants.json --seed $${SEED:-0} --each $${EACH:-20} \
		-m "not slow and not unshaped" $(CLOSE)

# Style and types are looked at while the tests run: one core would wait.
check: .venv/developed
	$(MAKE) --no-print-directory --jobs 2 style quick

quick: .venv/developed
	$(PYTEST) -n 2 $(JAXTYPING) -m "not slow and not unshaped and not wide"

format: .venv/developed
	$(BIN)/ruff check --fix --quiet src tests benchmarks examples
	$(BIN)/ruff format --quiet src tests benchmarks examples

lock:
	printf '$(BUILD)' | $(LOCK) $(UPGRADE) --extra fast --output-file requirements.lock
	printf '$(BUILD)' | $(LOCK) $(UPGRADE) --extra fast --extra dev --constraint requirements.lock --output-file requirements-dev.lock

clean:
	rm -rf .venv build dist
