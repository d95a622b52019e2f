# `make demo` and `make test` do all set-up: a virtual environment, the build, the installation.
# They want Python 3.11 or newer, a C compiler and make. Another Python: make test PYTHON=python3.13

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTHON_HERE := $(CURDIR)/$(BIN)/python
TRACE := build/trace
SANE := build/sanitize
RUNTIMES = $(shell $(CC) -print-file-name=libasan.so) $(shell $(CC) -print-file-name=libubsan.so)
SANITIZING = PYTHONPATH=$(CURDIR)/$(SANE) DICOMNET_PATIENCE=5 DICOMNET_WALKS=10000 PYTHONMALLOC=malloc \
	ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$(RUNTIMES)"
COMPILED := $(addprefix tests/,test_pdu.py test_pdu_hostile.py test_pdu_noise.py test_part10.py test_command_set.py \
	test_command_set_fragments.py test_elements.py test_upper_layer.py test_upper_hostile.py test_upper_walks.py \
	test_upper_slow.py test_exchange_hostile.py test_exchange.py test_fuzz.py test_messages.py test_instance_source.py \
	test_dataset_sink.py test_writer_thread.py test_scp.py test_window.py test_sync.py)
COUNT ?= 200000
KILLS ?= 2000
ARCHIVES ?= 13000
PROVIDERS ?= 1000
ROUTER_KILLS ?= 1000
NODE_KILLS ?= 300
DATABASE_RESTARTS ?= 30
TRACING := PYTHONPATH=$(CURDIR)/$(TRACE) DICOMNET_PATIENCE=5 DICOMNET_WALKS=5000
UNTRACED := ./build ./dist ./web-ui/node_modules ./.venv ./.git *.c *.so __pycache__ .coverage* .hypothesis .pytest_cache ./benchmarks/results
CYTHON := $(wildcard dicomnet/*.pyx dicomnet/*.pxd dicomnet/*/*.pyx dicomnet/*/*.pxd)
SOURCES := setup.py $(CYTHON)
STUBS := $(subst /,.,$(basename $(filter-out %/__init__.pyi,$(wildcard dicomnet/*.pyi dicomnet/*/*.pyi))))

# An object store for the tests: Swift wants packages that nothing else here does.
SWIFT := build/swift

export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Without bytecode, each worker of pytest would compile all tests anew, and each program that they start all of dicomnet.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo up down test test-long test-all test-browser lint swift twins docs bench provider-numbers trace fuzz hostile soak sanitize conformance viewer console wheel try-install man clean

help:
	@echo 'make demo | up | down | test | test-long | test-all | test-browser | lint | swift | twins | docs | bench | provider-numbers | trace | fuzz | hostile | soak | sanitize | conformance | viewer | console | wheel | try-install | man | clean'

# Real files bit for bit, then a site and a modality's day, from nothing to nothing.
demo: $(VENV)/built
	$(BIN)/dicomnet demo
	$(BIN)/dicomnet demo --site

# A site that goes on until `make down`; SITE is its folder.
SITE ?= build/site
up: $(VENV)/built
	test -f $(SITE)/site.toml || $(BIN)/dicomnet site init $(SITE) --yes --deidentified
	$(BIN)/dicomnet site up $(SITE)

down: $(VENV)/built
	$(BIN)/dicomnet site down $(SITE)

# What is about time or memory runs by itself, after the rest: that waits for processes and timers, so that six workers
# keep two processors busy; four do with the long proofs, which work more.
PYTEST := $(BIN)/python -m pytest
PARALLEL := --dist worksteal -n
MEASURING := $(shell grep -lE 'mark\.measures' tests/test_*.py)

swift: $(SWIFT)/installed

$(SWIFT)/installed:
	$(PYTHON) -m venv --clear $(SWIFT)
	$(SWIFT)/bin/python -m pip install -q 'swift>=2.38,<3'
	touch $@

test: $(VENV)/built
	$(PYTEST) $(PARALLEL) 6 -m 'not long and not measures' $(ARGS) || test $$? -eq 5
	$(PYTEST) -m 'measures and not long' $(or $(ARGS),$(MEASURING)) || test $$? -eq 5

# The long proofs: walks, churn, junk, every byte, kills, a viewer's pixels.
test-long: $(VENV)/built
	$(PYTEST) $(PARALLEL) 4 -m 'long and not measures' $(ARGS) || test $$? -eq 5
	$(PYTEST) -m 'long and measures' $(or $(ARGS),$(MEASURING)) || test $$? -eq 5

# With properties by as many examples as ever; `make test` tries fewer.
test-all test-long: export DICOMNET_EXAMPLES ?= 100
test-all test-long: export DICOMNET_QUERIES ?= 150
test-all: test test-long

# The viewer and the console in Chromium, after `make viewer console`; these tests are in test-all, too.
test-browser: $(VENV)/built
	$(PYTEST) tests/browser $(ARGS)

# cython-lint wants pycodestyle on the path. Nothing else may have $(BIN) there: pynetdicom's storescp would hide DCMTK's.
lint: $(VENV)/built
	$(BIN)/ruff check .
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint $(CYTHON)
	$(BIN)/python -m mypy
	$(if $(STUBS),$(BIN)/python -m mypy.stubtest $(STUBS))
	PYTHONPATH=$(CURDIR) $(BIN)/python -m pyright --pythonpath $(PYTHON_HERE) --verifytypes dicomnet --ignoreexternal

# The blocking modules, from the asyncio ones that are written by hand.
twins: $(VENV)/built
	$(BIN)/python tools/async_to_sync.py

# The site: build/docs/index.html. A reference that leads nowhere is an error.
docs: $(VENV)/built
	$(BIN)/python -m sphinx -q -W --keep-going -b html -d build/doctrees docs build/docs

# As pip would have left it: where Python may not write bytecode, each start of the program would compile it all anew.
bench: $(VENV)/built
	$(BIN)/python -m compileall -q dicomnet
	$(BIN)/python -m pytest benchmarks -o faulthandler_timeout=1800 $(ARGS)

# What one loop gives a provider, with goals: make provider-numbers ARGS="--before CHECKOUT"
provider-numbers: $(VENV)/built
	TCP_NODELAY=1 PYTHONPATH="$(CURDIR)" $(BIN)/python benchmarks/provider_numbers.py $(ARGS)

# Line coverage of Python and Cython. The tracing build lives in a copy of its own, so that the release build stays.
trace: $(VENV)/built
	rm -rf $(TRACE) && mkdir -p $(TRACE)
	tar -c $(UNTRACED:%=--exclude='%') . | tar -x -C $(TRACE)
	cd $(TRACE) && DICOMNET_BUILD=trace $(PYTHON_HERE) setup.py -q build_ext --inplace
	cd $(TRACE) && $(TRACING) $(PYTHON_HERE) -m coverage run -m pytest -q -m 'not measures' $(ARGS) \
		|| echo 'Some tests failed under tracing, which makes Cython ten times slower: make test is what judges them.'
	cd $(TRACE) && $(PYTHON_HERE) -m coverage combine -q && $(PYTHON_HERE) -m coverage report

# Mutated PDUs through the core: make fuzz COUNT=2000000
fuzz: $(VENV)/built
	$(BIN)/python -m tests.fuzz.mutate --count $(COUNT)

# Crafted zip archives into store; hostile providers against get, retrieve, commit and find: some minutes.
hostile: $(VENV)/built
	$(BIN)/python -m tests.fuzz.hostile archives --count $(ARCHIVES)
	$(BIN)/python -m tests.fuzz.hostile providers --count $(PROVIDERS)

# An archive, a router with its destinations, then three nodes on PostgreSQL, which is restarted, and an object store
# behind a proxy that cuts: killed at random times, none loses what was acknowledged.
# make soak KILLS=10000 ROUTER_KILLS=1000 NODE_KILLS=300 DATABASE_RESTARTS=30
soak: $(VENV)/built $(SWIFT)/installed
	$(BIN)/python tools/soak.py --kills $(KILLS)
	$(BIN)/python tools/router_soak.py --kills $(ROUTER_KILLS)
	$(BIN)/python tools/router_soak.py --kills $(ROUTER_KILLS) --through
	DICOMNET_NODE_KILLS=$(NODE_KILLS) DICOMNET_DATABASE_RESTARTS=$(DATABASE_RESTARTS) DICOMNET_PATIENCE=10 \
		$(PYTEST) -s -o faulthandler_timeout=0 tests/test_archive_nodes.py -m long

# README's table of providers: minutes of waiting for those that do not answer.
conformance: $(VENV)/built
	$(BIN)/python tools/conformance.py $(ARGS)

# The tests of what is compiled under address and undefined-behaviour sanitizers, in a copy; leaks at exit are Python's.
sanitize: $(VENV)/built
	rm -rf $(SANE) && mkdir -p $(SANE)
	tar -c $(UNTRACED:%=--exclude='%') . | tar -x -C $(SANE)
	cd $(SANE) && DICOMNET_BUILD=sanitize $(PYTHON_HERE) setup.py -q build_ext --inplace
	cd $(SANE) && $(SANITIZING) $(PYTHON_HERE) -m pytest -q -m 'not measures' $(COMPILED) $(ARGS)

# The package dicomnet-viewer, built from npm's OHIF and installed here. Wants node with npm.
viewer: $(VENV)/installed
	npm ci --prefix web-ui --ignore-scripts --silent --no-audit --no-fund
	$(BIN)/python -m pip install -q --no-deps --force-reinstall $$($(BIN)/python web-ui/build_viewer.py)

# What the console's pages load besides our own, from npm, into the package's data; with what tests judge them by.
console: $(VENV)/installed
	$(BIN)/python web-ui/build_console.py --tests

wheel: $(VENV)/installed console
	$(BIN)/python -m build

# Wheel and sdist in an empty environment for each extra: minutes, and the network.
try-install: wheel viewer
	$(BIN)/python tools/try_install.py $(ARGS)

# man -M build/man dicomnet-store
man: $(VENV)/built
	$(BIN)/python tools/man_pages.py build/man/man1

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f dicomnet/*.c dicomnet/*.so dicomnet/*/*.c dicomnet/*/*.so
	rm -rf dicomnet/web/console/static/vendor web-ui/axe

# An older pip writes a program that loads re before anything else: a tenth of what `dicomnet echo` takes.
$(VENV)/installed: pyproject.toml
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>&- || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -q 'pip>=25.3' 'setuptools>=77' 'Cython>=3.1'
	$(BIN)/python -m pip install -q --no-build-isolation -e '.[dev,docs]'
	touch $@

# Cython itself sees which modules a change concerns, except for one of the build script's directives.
$(VENV)/built: $(VENV)/installed $(SOURCES)
	$(if $(filter setup.py,$?),rm -f $(patsubst %.pyx,%.c,$(filter %.pyx,$(CYTHON))))
	$(BIN)/python setup.py -q build_ext --inplace
	touch $@
