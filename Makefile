# make compare and make test set up everything they need. make help lists the targets.

PYTHON ?= python3
BIN := .venv/bin
# The stamp's name holds a checksum of the pins: the environment is remade when they change, and only then.
STAMP := .venv/.ready-$(shell cat constraints.txt requirements.txt pyproject.toml | cksum | cut -d' ' -f1)
PIP := pip install --quiet --disable-pip-version-check
SWEEP := norm=none,batch,layer
COMPARED := $(foreach norm,none batch layer,outputs/grammar_en_zh/$(norm)-lstm-small-seed1)
SIZE ?= quick
FIRST ?= 0
KERNELS := $(wildcard seq2seq/rnn/cpu/*.h seq2seq/rnn/cpu/*.cpp seq2seq/model/cpu/*.h seq2seq/model/cpu/*.cpp)
SANITIZERS := -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all -g
# Where this variable is set, each of the hundreds of programs that the tests start would compile the package anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup lock compare experiments results test test-all test-oldest torture fuzz audit coverage browser compilers lint format types docs build bench sanitize clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP)  ## make .venv with the pinned packages (every other target does so by itself)

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "%s is Python %s: Python 3.11 or newer is needed (make PYTHON=python3.12 ...)" % (sys.executable, sys.version.split()[0]))'
	@echo "Making .venv with the pinned packages; this downloads torch and takes some minutes, once."
	@rm -f .venv/.ready-*
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m $(PIP) --require-hashes --no-deps -r requirements.txt
	@$(BIN)/python -m $(PIP) -c constraints.txt torch
	@$(BIN)/python -m $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

lock:  ## write requirements.txt: the pins of constraints.txt with the checksums of their files (by uv, in .venv-lock)
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python -m $(PIP) uv
	@printf "torch ; sys_platform == 'never'\n" > .venv-lock/without.txt
	UV_CUSTOM_COMPILE_COMMAND='make lock' .venv-lock/bin/uv pip compile pyproject.toml --extra dev -c constraints.txt --override .venv-lock/without.txt --no-emit-package torch \
		--universal --python-version 3.11.5 --generate-hashes --no-annotate --quiet -o requirements.txt

compare: $(STAMP)  ## train norm = none, batch, layer on the built-in corpus, score and compare them: table, report.html
	$(BIN)/python train.py -m $(SWEEP)
	$(BIN)/python scripts/compare.py $(COMPARED) --out .

experiments: $(STAMP)  ## all eight experiments on all cores, and their verdicts: comparison-quick/report.html (SIZE=real, gpu)
	@for experiment in $$($(BIN)/python -m seq2seq.report.experiments); do \
		echo "== $$experiment"; \
		$(BIN)/python train.py -m experiment=$$experiment size=$(SIZE) hydra/launcher=joblib hydra.launcher.verbose=10 || failed=1; \
	done; \
	$(BIN)/python scripts/compare.py outputs/*/*,experiment=*,size=$(SIZE)* --out comparison-$(SIZE) && test -z "$$failed"

test: $(STAMP)  ## every test not marked slow
	$(BIN)/python -m pytest

test-all: $(STAMP)  ## the slow tests too
	$(BIN)/python -m pytest -m ''

test-oldest:  ## the tests with the oldest packages that pyproject.toml allows, in .venv-oldest
	@$(PYTHON) -m venv .venv-oldest
	@.venv-oldest/bin/python -m $(PIP) -c constraints-oldest.txt -e '.[dev]'
	.venv-oldest/bin/python -m pytest

torture: $(STAMP)  ## kill trainings COUNT times (100) at random moments; each must end as one that never was
	$(BIN)/python tests/torture.py --count $(or $(COUNT),100)

browser:  ## install Chromium and its driver, without which the tests that need a browser are skipped (Debian, as root)
	@command -v chromedriver >/dev/null || (apt-get update -qq && \
		apt-get install -y -qq --no-install-recommends chromium chromium-driver)

compilers:  ## install clang and a compiler for aarch64, without which two slow tests are skipped (Debian, as root)
	@command -v clang++ >/dev/null && command -v aarch64-linux-gnu-g++ >/dev/null || (apt-get update -qq && \
		apt-get install -y -qq --no-install-recommends clang libomp-dev g++-aarch64-linux-gnu)

lint: $(STAMP)  ## check style, layout (Python and C++) and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(KERNELS)
	$(BIN)/codespell

format: $(STAMP)  ## lay out Python and C++ as make lint wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(KERNELS)

types: $(STAMP)  ## mypy, strict
	$(BIN)/mypy

coverage: $(STAMP)  ## the tests with branch coverage, without tests/properties: tracing makes these take an hour
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --ignore tests/properties

results: $(STAMP)  ## write the tables and figures of docs/results from the runs of make compare and make experiments
	$(BIN)/python scripts/compare.py $(COMPARED) --out docs/results/compare
	$(BIN)/python scripts/compare.py outputs/*/*,experiment=*,size=$(SIZE)* --out docs/results/$(SIZE)

docs: $(STAMP)  ## draw the diagrams, build the documentation into site/; a broken link fails
	$(BIN)/python docs/diagrams.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

build: $(STAMP)  ## build wheel and source archive into dist/
	rm -rf dist
	$(BIN)/python -m build --quiet --no-isolation

bench: $(STAMP)  ## measure speed, compared with torch.nn
	$(BIN)/python scripts/benchmark.py layers

sanitize: $(STAMP)  ## the fused kernels' tests with gcc's AddressSanitizer and UndefinedBehaviorSanitizer compiled in
	CXX='g++ $(SANITIZERS)' LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
		$(BIN)/python -m pytest -n 0 tests/rnn/test_fused*.py tests/rnn/test_recurrences.py tests/rnn/test_parts.py tests/rnn/test_projected.py \
		tests/rnn/test_products.py tests/rnn/test_step_loops.py \
		tests/model/test_kernels.py tests/model/test_next_words.py tests/model/test_loss.py tests/model/test_input_feeding.py tests/translation/test_shortlisted_search.py -k 'not two_processes'

fuzz: $(STAMP)  ## damage COUNT (10000) copies of a run; each command gives an error or a right result (docs/reliability.md)
	PYTHONPATH=.:tests $(BIN)/python -m fuzz --count $(or $(COUNT),10000) --first $(FIRST)

audit:  ## look for known faults of the pinned packages (pip-audit asks pypi.org; in .venv-audit)
	@$(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/python -m $(PIP) pip-audit
	.venv-audit/bin/pip-audit --strict --require-hashes --disable-pip -r requirements.txt

clean:  ## remove .venv and caches; runs and data stay
	rm -rf .venv .venv-oldest .venv-audit .venv-lock .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage build dist site
