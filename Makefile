# Every target creates what it needs; `make` alone lists them.
# ROS 2 comes from the sourced installation where ROS_DISTRO is set, otherwise from wheels.

SHELL := /bin/bash
.SHELLFLAGS := -e -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
ROS := $(or $(ROS_DISTRO),wheels)
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check -q
ORACLES := feetech-servo-sdk ftservo-python-sdk
MSGS := ros2_ws/src/mbrl_msgs

# Python is python3 where that is 3.10 to 3.13, otherwise the newest of those found; PYTHON= overrides.
IN_RANGE := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
PYTHON = $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	if $$p -c '$(IN_RANGE)' 2>/dev/null; then echo $$p; break; fi; done)
HAS_HEADERS := import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))

# The wheels' bootstrapper sets LD_LIBRARY_PATH once per process tree: a tree of another environment must not count.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

# $(call need,command,sentence): stop with the sentence where the command fails.
need = @{ $(1); } >/dev/null 2>&1 || { echo "$(strip $(2))" >&2; exit 1; }

.PHONY: help setup sim test lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.msgs-$(ROS) $(ORACLES:%=$(VENV)/oracles/%) ## create .venv with pinned versions and build mbrl_msgs into it

sim: setup ## train on the twin and evaluate; SEED= SPEED= STEPS= EVAL_SPEED=
	$(VENV)/bin/mbrl sim $(if $(SEED),--seed $(SEED)) $(if $(SPEED),--speed $(SPEED)) \
		$(if $(STEPS),--steps $(STEPS)) $(if $(EVAL_SPEED),--eval-speed $(EVAL_SPEED))

# Tests that keep time with a bus or a graph run alone, the others side by side.
test: setup ## run the tests; with ARGS= only what pytest is told there
ifdef ARGS
	$(VENV)/bin/python -m pytest $(ARGS)
else
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -m 'not realtime' -n auto --dist loadfile
	$(VENV)/bin/python -m pytest -m realtime
endif

lint: $(VENV)/.deps-$(ROS) ## ruff, and mypy --strict on mbrl_core
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy

clean: ## remove .venv, builds and caches; runs/ stays
	rm -rf $(VENV) {,ros2_ws/}{build,install,log} mbrl.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# One stamp per source of ROS: changing from wheels to an installation, or back, starts afresh.
$(VENV)/.venv-$(ROS):
	$(call need, test -n "$(PYTHON)", mbrl needs Python 3.10 to 3.13: install the Debian package python3 or set PYTHON=.)
	$(call need, $(PYTHON) -c '$(IN_RANGE)', mbrl needs Python 3.10 to 3.13 and $(PYTHON) is none: set PYTHON= to another.)
	$(call need, $(PYTHON) -c 'import ensurepip', $(PYTHON) cannot make environments: install the Debian package $(notdir $(PYTHON))-venv.)
	$(call need, $(PYTHON) -c '$(HAS_HEADERS)', The headers of $(PYTHON) are missing: install the Debian package $(notdir $(PYTHON))-dev.)
	$(call need, cc --version && c++ --version, A C and C++ compiler is missing: install the Debian package build-essential.)
	$(call need, cmake --version, cmake is missing: install the Debian package cmake.)
ifdef ROS_DISTRO
	$(call need, $(PYTHON) -m colcon --help, colcon is missing: install the Debian package python3-colcon-common-extensions.)
	$(PYTHON) -m venv --clear --system-site-packages $(VENV)
else
	$(call need, test "$$(uname -sm)" = "Linux x86_64", ROS 2 wheels exist for Linux x86-64 only: source a ROS 2 installation.)
	$(PYTHON) -m venv --clear $(VENV)
endif
	touch $@

# torch comes first, so that nothing else chooses its build. The bootstrapper alone serves an installation too: it
# lets any process find the libraries of mbrl_msgs in .venv/lib.
$(VENV)/.deps-$(ROS): constraints.txt requirements-ros.txt setup.py setup.cfg pyproject.toml | $(VENV)/.venv-$(ROS)
	$(PIP) install -c constraints.txt pip setuptools wheel
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt $(if $(ROS_DISTRO),ros-wheels-bootstrapper,-r requirements-ros.txt)
	PYTHONWARNINGS=ignore $(PIP) install -c constraints.txt --no-build-isolation -e '.[learn,sim,cli,dev]'
	touch $@

# Vendors' libraries that grade the emulated bus. Both import as scservo_sdk: each has a folder of its own.
$(VENV)/oracles/%: constraints.txt | $(VENV)/.deps-$(ROS)
	rm -rf $@
	$(PIP) install --no-deps --no-build-isolation --target $@ -c constraints.txt $*

# Built into the environment itself: its interpreter finds mbrl_msgs with nothing sourced.
$(VENV)/.msgs-$(ROS): private export PATH := $(abspath $(VENV)/bin):$(PATH)
ifndef ROS_DISTRO
$(VENV)/.msgs-$(ROS): private export AMENT_PREFIX_PATH := $(abspath $(VENV))
$(VENV)/.msgs-$(ROS): private export CMAKE_PREFIX_PATH := $(abspath $(VENV))
endif
$(VENV)/.msgs-$(ROS): constraints.txt requirements-ros.txt $(wildcard $(MSGS)/* $(MSGS)/*/*) | $(VENV)/.deps-$(ROS)
	python -m colcon --log-base /dev/null build --packages-select mbrl_msgs --event-handlers console_direct- \
		--merge-install --install-base $(VENV) --build-base $(VENV)/build \
		--cmake-args -DBUILD_TESTING=OFF -DPython3_EXECUTABLE=$(abspath $(VENV)/bin/python)
	touch $@
