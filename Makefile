# Two commands do everything: `make demo` and `make test`. Both set up .venv first; nothing is
# written outside this folder. `make help` lists the rest.

.DEFAULT_GOAL := help
.PHONY: help demo test setup clean

# The ROS 2 Jazzy wheels exist for CPython 3.10 to 3.12: take the first such interpreter.
ifeq ($(origin PYTHON), undefined)
PYTHON := $(shell for candidate in python3 python3.12 python3.11 python3.10; do \
    if "$$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
        >/dev/null 2>&1; then echo "$$candidate"; break; fi; done)
endif

# A sourced ROS installation must not leak into .venv, which carries its own ROS.
unexport PYTHONPATH PYTHONHOME LD_LIBRARY_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH VIRTUAL_ENV
unexport ROS_DISTRO RMW_IMPLEMENTATION ROS_DISCOVERY_SERVER _ROS_WHEELS_BOOTSTRAP_COMPLETE
export AMENT_PREFIX_PATH := $(CURDIR)/.venv

# What would otherwise be written to the home directory.
export PIP_CACHE_DIR ?= $(CURDIR)/.cache/pip
export ROS_LOG_DIR := $(CURDIR)/.cache/ros_log
export MPLCONFIGDIR := $(CURDIR)/.cache/matplotlib

help:
	@echo 'make demo    follow a target in real video through two ROS 2 processes'
	@echo '             SOURCE=<video | image folder | /dev/videoN>  BOX=x,y,w,h  RATE=<Hz>'
	@echo '             MODEL=<name or .safetensors>  OUTPUT=<folder, default demo_output>'
	@echo 'make test    style, types and all tests; ARGS="-k box" goes to pytest'
	@echo 'make setup   only create .venv (both commands above do it themselves)'
	@echo 'make clean   remove everything that make created'
	@echo ''
	@echo 'PYTHON=<interpreter> chooses a CPython 3.10 to 3.12. On a machine without an NVIDIA GPU'
	@echo 'PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu saves some gigabytes.'

setup:
ifeq ($(PYTHON),)
	@echo 'No CPython 3.10 to 3.12 found, and ROS 2 needs one. Install it with' >&2
	@echo '    sudo apt install python3 python3-venv python3-dev' >&2
	@echo 'or, where python3 is newer,  uv python install 3.12  and call make with' >&2
	@echo '    make PYTHON="$$(uv python find 3.12)" ...' >&2
	@exit 1
endif
	@"$(PYTHON)" tools/setup_env.py

# The variables reach the shell through its environment, so that any file name survives.
demo: setup
	@.venv/bin/python tools/demo.py $${SOURCE:+--source "$$SOURCE"} $${BOX:+--box "$$BOX"} \
	    $${RATE:+--rate "$$RATE"} $${MODEL:+--model "$$MODEL"} $${OUTPUT:+--output "$$OUTPUT"}

test: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python -m pytest $(ARGS)

clean:
	rm -rf .venv .cache demo_output build install log *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find siamkd_core siamkd_ros test tools launch -name __pycache__ -prune -exec rm -rf {} +
