# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
TEST_VENV ?= .venv-test
# Tests want torch; 2.10 or later is needed, as weights are read. On a machine without a GPU the CPU build is much smaller.
TORCH ?= torch==2.13.0
PYTEST_ARGS ?=
DEMO_DIR ?= demo

export OMP_NUM_THREADS ?= 1

.PHONY: install check audit test test-minimum demo bench clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[report]'
	touch $@

$(TEST_VENV)/.installed: pyproject.toml requirements-test.txt
	$(PYTHON) -m venv $(TEST_VENV)
	$(TEST_VENV)/bin/pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(TEST_VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[train,tflite,report]' -r requirements-test.txt
	$(TEST_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps 'ofa==0.1.0.post202307202001'
	touch $@

install: $(VENV)/.installed  ## the commands, in .venv

check: $(TEST_VENV)/.installed  ## lint, format, types, import rules, security
	$(TEST_VENV)/bin/ruff check .
	$(TEST_VENV)/bin/ruff format --check .
	$(TEST_VENV)/bin/mypy
	$(TEST_VENV)/bin/lint-imports
	$(TEST_VENV)/bin/bandit --quiet --recursive --configfile pyproject.toml devices ofa_core predictors profiler tools benchmarks examples experiments
	$(TEST_VENV)/bin/python tools/check_versions.py

# Asks an advisory service, so it needs the network and is no part of `check`, which compares with a list that is kept here.
# --strict: a package that the service does not know, or a service that does not answer, is an error.
audit: $(TEST_VENV)/.installed  ## known vulnerabilities of all that is installed, as of today
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install --quiet --disable-pip-version-check 'pip-audit>=2.7'
	.venv-audit/bin/pip-audit --strict --skip-editable --progress-spinner off --path $$($(TEST_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

test: check  ## everything that guards main
	$(TEST_VENV)/bin/python -m pytest $(PYTEST_ARGS)

# The oldest releases that pyproject.toml allows, without torch; the tests that need no device, supernet or other program.
test-minimum:  ## the tests of files, tables, predictors and search, with the oldest dependencies
	$(PYTHON) -m venv .venv-minimum
	$(PYTHON) tools/minimum_versions.py report > .venv-minimum/constraints.txt
	.venv-minimum/bin/pip install --quiet --disable-pip-version-check -c .venv-minimum/constraints.txt -e '.[report]' \
	  hypothesis pytest pytest-timeout
	.venv-minimum/bin/python -m pytest -q -m "not slow and not torch" tests/ofa_core tests/predictors tests/test_version_0_1.py $(PYTEST_ARGS)

demo: $(VENV)/.installed  ## profile this CPU, verify, search at a limit, measure the winner, write demo/report.html
	$(VENV)/bin/python tools/demo.py --out $(DEMO_DIR)

bench: $(TEST_VENV)/.installed  ## ratios against peers and limits; some need $$OFA_REFERENCE_DATA
	for name in help_texts export search training; do \
	  echo "== $$name"; PYTHONPATH=. $(TEST_VENV)/bin/python benchmarks/$$name.py || exit 1; done
	if [ -n "$$OFA_REFERENCE_DATA" ]; then PYTHONPATH=. $(TEST_VENV)/bin/python benchmarks/prediction.py "$$OFA_REFERENCE_DATA"; fi

clean:
	rm -rf $(VENV) $(TEST_VENV) .venv-audit .venv-minimum $(DEMO_DIR) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
