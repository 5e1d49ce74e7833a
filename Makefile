# `make help` lists the targets. Settings, given as `make NAME=value target` or in the environment:
#   VENV    where the environment is made and kept
#   PYTHON  the interpreter it is made with (default: the first Python 3.11 to 3.13 on the path)
#   TORCH   another torch than the lock's: cpu, slim or versions, see docs/install.md
#   JOBS    how many processes run the tests
#   ARGS    extra arguments for quickstart and pytest
VENV ?= .venv
JOBS ?= 2
ARGS ?=

python := "$(VENV)/bin/python"
pytest := $(python) -m pytest -n $(JOBS) --dist worksteal

export PYTHON
export TORCH
export TORCH_INDEX
export PYTHONPATH := $(CURDIR)
test test-slow test-faults test-end: export OMP_NUM_THREADS := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help env quickstart results-quick test test-slow test-faults test-range test-end lint metafiles docs lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s%s\n", $$1, $$2}' Makefile

env:  ## make or update the environment in .venv (VENV=path: elsewhere)
	@sh requirements/install.sh "$(VENV)"

quickstart: env  ## a short distillation, start to end, on the CPU (ARGS="--seeds 0 1 2")
	$(python) tools/distill.py configs/hsakd/hsakd-offline_wrn-16-2_wrn-10-1_1xb64-80e_digits.py --work-dirs work_dirs/quickstart --out work_dirs/quickstart/models/ $(ARGS)
	$(python) tools/analysis_tools/report.py work_dirs/quickstart

results-quick: env  ## the comparison of docs/results.md in a small form: CIFAR-100 (in data/cifar100/), half an hour
	$(python) tools/compare.py $(addsuffix _resnet20_resnet8_1xb64-5e_cifar100-25pct,kd hsakd-offline-frozen) --work-dirs work_dirs/results-quick $(ARGS)

test: lint  ## ruff, then the tests (ARGS="-k name" for some of them)
	$(pytest) $(ARGS)

test-slow: env  ## the tests marked slow
	$(pytest) -m slow --timeout 3600 $(ARGS)

test-faults: env  ## kills, signals, full disks, broken data: the whole fault suite
	$(pytest) tests/faults tests/tools/test_clusters.py -m '' --timeout 3600 $(ARGS)

# The ends of the ranges in requirements/runtime.txt, and what of the tests depends on torch the most.
OLDEST := torch==2.11.0 torchvision==0.26.0
NEWEST := torch==2.14.1 torchvision==0.29.1
RANGE_TESTS := tests/test_golden.py tests/test_golden_methods.py tests/test_golden_online.py \
  tests/test_private_names.py tests/models tests/ops tests/engine tests/datasets tests/evaluation tests/utils

test-range:  ## those tests with the oldest and the newest torch (environments of their own, 13 GB)
	$(MAKE) test-end VENV="$(VENV)-oldest" TORCH="$(OLDEST)"
	$(MAKE) test-end VENV="$(VENV)-newest" TORCH="$(NEWEST)"

test-end: env
	$(pytest) $(RANGE_TESTS) $(ARGS)

lint: env  ## ruff alone
	$(python) -m ruff check .

metafiles:  ## write model-index.yml and the metafiles of configs
	$(python) tools/metafiles.py

docs: .venv-docs/.done  ## the documentation as a site in site/; fails on a broken link
	.venv-docs/bin/mkdocs build --strict

# An environment of its own, since the lock leaves the docs group out.
.venv-docs/.done: requirements/docs.txt
	$(or $(PYTHON),python3) -m venv .venv-docs
	.venv-docs/bin/pip install --disable-pip-version-check -q -r requirements/docs.txt
	touch $@

lock:  ## write what is installed in the environment to requirements/lock.txt
	@test ! -e "$(VENV)/.hsakd-torch" || { echo 'error: the lock is written from an environment with its own torch, made without TORCH'; exit 1; }
	@{ sed -n '/^#/p' requirements/lock.txt; \
	   $(python) -m pip freeze --all --exclude pip --exclude hsakd | \
	   sed -E 's/\+[^ ]*//; /^(nvidia-|cuda-|triton)/ s/$$/ ; sys_platform == "linux"/'; } > lock.tmp
	@mv lock.tmp requirements/lock.txt

clean:  ## remove caches and build leftovers; keeps the environment and work_dirs
	rm -rf build dist *.egg-info site .pytest_cache .ruff_cache .hypothesis
	find hsakd tools tests configs -name __pycache__ -prune -exec rm -rf {} +
