# `make test` and `make captures` work on a machine that has only python3 and make; tshark and tcpdump are installed
# where that is possible (root on Debian), and what needs them is skipped with its reason elsewhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# the book's diagrams are laid out by Graphviz where it is installed
.PHONY: help book venv tools captures corpus corpus-programs guest-scripts selftests test lint compiled bench clean

help:
	@echo "make captures   check the shipped captures of real kernels and write report/"
	@echo "make corpus     record random workloads under three kernels into build/corpus (root; half an hour)"
	@echo "make corpus-programs  record real programs into build/corpus-programs (root; fetches nothing)"
	@echo "make selftests  the kernel's own packetdrill scripts on the model; fetches linux-source-6.12 (Debian)"
	@echo "make guest-scripts  the shipped .pkt scripts on Debian's 6.1 and 6.12 kernels in QEMU, beside the model of each"
	@echo "make test       everything: tests, proofs, searches, captures, lint, types, live (through tox)"
	@echo "make book       the specification as a site: build/book/site/index.html"
	@echo "make compiled   the package with its compiled modules, in build/compiled (C compiler, Python.h)"
	@echo "make bench      measured ratios, printed; the compiled modules beside the interpreted ones"
	@echo "make clean      remove what the others made"

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

venv: $(STAMP)

tools:
	@sh tools/install-system-tools.sh

captures: venv tools
	$(BIN)/refmodel check --report report captures

corpus: venv tools
	$(BIN)/python -m conformance.live.corpus --out build/corpus

corpus-programs: venv tools
	$(BIN)/python -m conformance.live.programs --out build/corpus-programs

selftests: venv
	@sh tools/selftests.sh $(BIN)/refmodel $(SELFTESTS_OPTIONS)

guest-scripts: venv
	$(BIN)/python -m tests.script_runs --guests

book: venv tools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[book]"
	$(BIN)/python -m conformance.book --out build/book

test: venv tools
	$(BIN)/tox run

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

compiled: venv
	rm -rf build/compiled build/lib* build/temp* build/bdist*
	REFMODEL_COMPILE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target build/compiled .

bench: venv
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) .tox build dist report *.egg-info .mypy_cache .ruff_cache .hypothesis
