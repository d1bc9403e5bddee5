# `make demo` and `make test` need only Python >= 3.10, make and git; `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
USE_ACTIVE ?= auto
WORKERS ?= 2
DEMO := work_dirs/demo

# The interpreter of an environment that is active, has torch and is not our own; empty otherwise.
FIND_ACTIVE = import importlib.util, os, sys; \
	own = os.path.realpath(sys.prefix) == os.path.realpath("$(VENV)"); \
	print("" if own or importlib.util.find_spec("torch") is None else sys.executable)
ifeq ($(USE_ACTIVE),1)
ACTIVE := $(shell '$(PYTHON)' -c 'import sys; print(sys.executable)')
else ifeq ($(USE_ACTIVE),auto)
ifneq ($(VIRTUAL_ENV)$(CONDA_PREFIX),)
ACTIVE := $(shell python -c '$(FIND_ACTIVE)' 2>/dev/null)
endif
endif

ifneq ($(ACTIVE),)
PY := $(ACTIVE)
PREFIX := $(shell '$(PY)' -c 'import sys; print(sys.prefix)')
CONSTRAINTS :=
MMCV := $(shell '$(PY)' -c 'import importlib.util as u; print("" if u.find_spec("mmcv") else "lite,")')
STAMP := build/environment-$(shell printf '%s' '$(PREFIX)' | cksum | cut -d' ' -f1)
else
PY := $(VENV)/bin/python
PREFIX := $(VENV)
CONSTRAINTS := -c requirements/constraints.txt
MMCV := lite,
STAMP := $(VENV)/.mmwsss-installed
endif
NEEDED := import mmwsss, mmseg.models, mmpretrain.models, pytest, xdist, ruff
DEMO_SOURCES := $(shell find mmwsss configs/_base_ configs/vitpcm configs/cam -name '*.py') configs/vitpcm_shapes.py \
	configs/pretrain_shapes.py tools/train.py tools/test.py tools/dataset_converters/shapes.py

export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))

.DEFAULT_GOAL := help
.PHONY: help venv test demo docs lint format clean which-env
.DELETE_ON_ERROR:

help:
	@echo 'make demo    install, generate data, train and evaluate ViT-PCM, end with scores and pictures'
	@echo 'make test    install and run the tests'
	@echo 'make venv    only make the environment $(VENV)'
	@echo 'make docs    build the documentation as HTML in docs/_build/html'
	@echo 'make lint    check style and format; make format applies them'
	@echo 'make clean   remove caches and the results of the demo'
	@echo
	@echo 'PYTHON=python3.12   interpreter the environment is made from (default: python3)'
	@echo 'PIP_FLAGS=...       more arguments of pip install'
	@echo 'USE_ACTIVE=1|0      use the environment of PYTHON, or always $(VENV); by default an active environment'
	@echo '                    that has torch is used, and what it lacks is installed there'
	@echo 'WORKERS=4           processes of make test (default: 2)'

which-env:
	@echo 'environment: $(PREFIX)'

venv: which-env $(STAMP)

# torch first: what is there already is kept, whichever build it is.
$(STAMP): $(wildcard requirements/*.txt) pyproject.toml setup.py
ifeq ($(ACTIVE),)
	@command -v '$(PYTHON)' >/dev/null || { echo 'error: $(PYTHON) not found; choose an interpreter with make PYTHON=...' >&2; exit 2; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "error: Python 3.10 or newer is needed, $(PYTHON) is $$('$(PYTHON)' --version 2>&1); choose one with make PYTHON=..." >&2; exit 2; }
	'$(PYTHON)' -m venv '$(PREFIX)'
	'$(PY)' -c 'import torch, torchvision' 2>/dev/null || '$(PY)' -m pip install $(PIP_FLAGS) $(CONSTRAINTS) torch torchvision
endif
	$(if $(ACTIVE),'$(PY)' -c '$(NEEDED)' 2>/dev/null ||) '$(PY)' -m pip install $(PIP_FLAGS) $(CONSTRAINTS) -e '.[$(MMCV)tests]'
# opencv-python needs libGL, which a bare machine does not have.
	'$(PY)' -c 'import cv2' 2>/dev/null || { '$(PY)' -m pip uninstall -y opencv-python && \
		'$(PY)' -m pip install $(PIP_FLAGS) --force-reinstall --no-deps $(CONSTRAINTS) opencv-python-headless; }
	'$(PY)' -c '$(NEEDED)'
	@mkdir -p '$(@D)' && touch '$@'

test: venv
	'$(PY)' -m pytest -n $(WORKERS) --dist loadfile

docs: venv
	'$(PY)' -c 'import furo, myst_parser, sphinx' 2>/dev/null || '$(PY)' -m pip install $(PIP_FLAGS) $(CONSTRAINTS) -r requirements/docs.txt
	'$(PY)' -m sphinx -W --keep-going -b html docs docs/_build/html

lint: venv
	'$(PY)' -m ruff check .
	'$(PY)' -m ruff format --check .

format: venv
	'$(PY)' -m ruff check --fix .
	'$(PY)' -m ruff format .

demo: venv $(DEMO)/.finished
	'$(PY)' tools/analysis_tools/score_table.py $(DEMO)

$(DEMO)/.finished: $(STAMP) $(DEMO_SOURCES)
	rm -rf $(DEMO)
	'$(PY)' tools/dataset_converters/shapes.py --out data/shapes
	'$(PY)' tools/train.py configs/pretrain_shapes.py --work-dir $(DEMO)/pretrain
	MMWSSS_SHAPES_WEIGHTS=$(DEMO)/pretrain/iter_500.pth '$(PY)' tools/train.py configs/vitpcm_shapes.py --work-dir $(DEMO)/vitpcm
	'$(PY)' tools/test.py configs/vitpcm_shapes.py $(DEMO)/vitpcm --work-dir $(DEMO)/vitpcm
	@touch $@

clean:
	rm -rf $(DEMO) build docs/_build .pytest_cache .ruff_cache
	find mmwsss tools tests configs -name __pycache__ -type d -prune -exec rm -rf {} +
