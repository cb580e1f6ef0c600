# From a clean clone: `make demo` or `make test`. Python 3.10+ with its venv module, nothing else has to be installed.

PYTHON ?= python3
VENV ?= .venv
# Which build of PyTorch, pip options included: on Linux the default one brings gigabytes of CUDA (CONTRIBUTING.md).
TORCH ?= $(shell grep '^torch==' constraints.txt)
# Two workers of one thread each: more threads than cores make the small models of the tests slower, not faster.
JOBS ?= 2

RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check
# Tests read local files only; a test that reaches for the network should fail, not wait.
TEST_ENV := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 MPLBACKEND=Agg

.DEFAULT_GOAL := help
.PHONY: help demo web test test-slow lint format docs table release clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.installed  ## zero-shot and multilingual retrieval, search of sentences, with the shipped checkpoints; writes demo.png
	$(RUN) scripts/demo.py
	$(RUN) -m clippo demo sentences

web: $(VENV)/.installed node_modules/onnxruntime-web  ## build the page that runs the model in the browser, and serve it
	$(RUN) scripts/build_web.py --port 8000

node_modules/onnxruntime-web:
	@command -v npm >/dev/null || { echo "make web needs npm, which comes with Node.js: the page runs onnxruntime-web" >&2; exit 1; }
	npm install --no-save --no-audit --no-fund --ignore-scripts onnxruntime-web@1.30.0

test: $(VENV)/.installed  ## the test suite without the slow tests
	$(TEST_ENV) $(RUN) -m pytest -q -n $(JOBS) -m "not slow"

test-slow: $(VENV)/.installed  ## only the tests that take more than a minute
	$(TEST_ENV) $(RUN) -m pytest -q -m slow

lint: $(VENV)/.installed-dev  ## ruff: rules and format
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(VENV)/.installed-dev  ## ruff: mend what can be mended
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

docs: $(VENV)/.installed-docs  ## the documentation with its API reference, in site/; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

table: $(VENV)/.installed  ## the table of the shipped models in README.md, from their folders
	$(RUN) scripts/write_model_table.py

release: $(VENV)/.installed-docs node_modules/onnxruntime-web table  ## packages, models, Spaces and site in dist/, checked; uploads nothing
	rm -rf dist build
	$(PIP) install -q -c constraints.txt -e '.[release]'
	$(RUN) -m build --outdir dist/packages
	$(RUN) -m twine check --strict dist/packages/*
	for model in checkpoints/*; do \
	  $(RUN) -m clippo export --model $$model --output_dir dist/models/$${model#*/} --card $$model/README.md || exit 1; done
	$(RUN) -m clippo build web --output_dir dist/spaces/web
	$(RUN) -m clippo demo web --space dist/spaces/demo
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build -q --strict --site-dir dist/site
	$(PYTHON) -m venv dist/empty
	dist/empty/bin/python -m pip install -q --no-deps $(TORCH)
	for package in dist/packages/*.whl dist/packages/*.tar.gz; do \
	  dist/empty/bin/python -m pip install -q -c constraints.txt $$package || exit 1; \
	  (cd dist/empty && bin/python -m clippo.release.check_install --model ../models/clippo-emoji \
	    --image ../../docs/pictures/cat.webp) || exit 1; \
	  dist/empty/bin/python -m pip uninstall -q -y clippo; done
	rm -rf dist/empty
	$(TEST_ENV) $(RUN) -m pytest -q tests/clippo/conversion/test_push.py

clean:  ## remove the environment and everything that a build or a test leaves behind
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .hypothesis .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "clippo needs Python 3.10 or newer, but $(PYTHON) is $$($(PYTHON) -V 2>&1): make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make a virtual environment with pip in it: install its venv package (Debian, Ubuntu: python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.py constraints.txt | $(RUN)
	@echo "installing into $(VENV): a few minutes the first time"
	$(PIP) install -q --no-deps $(TORCH)
	$(PIP) install -q -c constraints.txt -e '.[test,plot,shaping,evaluation,onnx,search,pictograms,finetune]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed mkdocs.yml
	$(PIP) install -q -c constraints.txt -e '.[docs]'
	@touch $@
