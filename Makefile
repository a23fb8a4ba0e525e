# A fresh machine needs two commands: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
TEST_VENV ?= .venv-test
# The tests need torch 2.10 or later, which reads weights safely. Without a GPU, the CPU build is much smaller.
TORCH ?= torch==2.13.0
# Two processes, each with whole files of tests: a file shares its devices and fitted models.
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder
DEMO_DIR ?= demo
NEWER_PYTHON ?= $(shell tools/newer_python.sh)
PIP_INSTALL = bin/pip install --quiet --disable-pip-version-check
# Files of version 0.1.0, model files, formats of other projects, predictors, and the examples, which profile, predict
# and search with the installed runtime. They need no torch and no other device, and take about a minute.
SHORT_TESTS = tests/test_version_0_1.py tests/test_examples.py tests/ofa_core/export tests/ofa_core/formats tests/predictors
SHORT_TEST_PACKAGES = hypothesis pytest pytest-timeout

export OMP_NUM_THREADS ?= 1

.PHONY: install check audit docs test test-minimum test-newer env-minimum env-newer demo bench clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/$(PIP_INSTALL) -e .
	touch $@

$(TEST_VENV)/.installed: pyproject.toml requirements-test.txt
	$(PYTHON) -m venv $(TEST_VENV)
	$(TEST_VENV)/$(PIP_INSTALL) '$(TORCH)'
	$(TEST_VENV)/$(PIP_INSTALL) -e '.[train,tflite]' -r requirements-test.txt
	$(TEST_VENV)/$(PIP_INSTALL) --no-deps 'ofa==0.1.0.post202307202001'
	touch $@

# The oldest versions that pyproject.toml allows, without torch.
.venv-minimum/.installed: pyproject.toml requirements-test.txt tools/minimum_versions.py
	$(PYTHON) -m venv .venv-minimum
	$(PYTHON) tools/minimum_versions.py > .venv-minimum/constraints.txt
	.venv-minimum/$(PIP_INSTALL) -c .venv-minimum/constraints.txt -c requirements-test.txt -e . $(SHORT_TEST_PACKAGES)
	touch $@

.venv-newer/.installed: pyproject.toml requirements-test.txt
	$(NEWER_PYTHON) -m venv .venv-newer
	.venv-newer/$(PIP_INSTALL) -c requirements-test.txt -e . $(SHORT_TEST_PACKAGES)
	touch $@

install: $(VENV)/.installed  ## install the commands into .venv

check: $(TEST_VENV)/.installed  ## check lint, format, types, import rules, security and sizes
	$(TEST_VENV)/bin/ruff check .
	$(TEST_VENV)/bin/ruff format --check .
	$(TEST_VENV)/bin/mypy
	$(TEST_VENV)/bin/lint-imports
	$(TEST_VENV)/bin/bandit --quiet --recursive --configfile pyproject.toml devices ofa_core predictors profiler tools benchmarks examples experiments
	$(TEST_VENV)/bin/python tools/check_versions.py
	$(TEST_VENV)/bin/python tools/check_code.py

docs: $(TEST_VENV)/.installed  ## build the documentation as a site in build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(TEST_VENV)/bin/python -m mkdocs build --quiet --strict

# This asks an advisory service, so it needs the network. `check` compares with the list in tools/ instead.
# --strict: an unknown package, or a service that does not answer, is an error.
audit: $(TEST_VENV)/.installed  ## compare all installed packages with the vulnerabilities known today
	$(PYTHON) -m venv .venv-audit
	.venv-audit/$(PIP_INSTALL) 'pip-audit>=2.7'
	.venv-audit/bin/pip-audit --strict --skip-editable --progress-spinner off --path $$($(TEST_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

test: check  ## run all checks and all tests
	$(TEST_VENV)/bin/python -m pytest $(PYTEST_ARGS)

env-minimum: .venv-minimum/.installed

test-minimum: env-minimum  ## run the short tests with the oldest versions of the dependencies
	.venv-minimum/bin/python -m pytest -q -m "not slow and not torch" $(SHORT_TESTS)

env-newer:
	@if [ -n "$(NEWER_PYTHON)" ]; then $(MAKE) --no-print-directory .venv-newer/.installed; fi

test-newer: env-newer  ## run the short tests with Python 3.13 or 3.12, if there is one
	@if [ -n "$(NEWER_PYTHON)" ]; then .venv-newer/bin/python -m pytest -q -m "not slow and not torch" $(SHORT_TESTS); \
	else echo "skipped: this machine has no Python 3.12 or 3.13"; fi

demo: $(VENV)/.installed  ## profile this CPU, verify, search at a limit, measure the winner, write demo/report.html
	$(VENV)/bin/python tools/demo.py --out $(DEMO_DIR)

bench: $(TEST_VENV)/.installed  ## compare with limits and with other tools; some benchmarks need $$OFA_REFERENCE_DATA
	for name in help_texts export search search_fronts proofs training; do \
	  echo "== $$name"; PYTHONPATH=. $(TEST_VENV)/bin/python benchmarks/$$name.py || exit 1; done
	if [ -n "$$OFA_REFERENCE_DATA" ]; then PYTHONPATH=. $(TEST_VENV)/bin/python benchmarks/prediction.py "$$OFA_REFERENCE_DATA"; fi

clean:
	rm -rf $(VENV) $(TEST_VENV) .venv-audit .venv-minimum .venv-newer $(DEMO_DIR) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
