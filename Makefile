# Commands for users and contributors. `make demo` needs only Python 3.10+ and pip.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Use the active environment, or make one in .venv.
ifdef VIRTUAL_ENV
ENVIRONMENT := $(VIRTUAL_ENV)
else ifdef CONDA_PREFIX
ENVIRONMENT := $(CONDA_PREFIX)
else
ENVIRONMENT := .venv
endif
PYTHON := $(ENVIRONMENT)/bin/python
INSTALLED := $(ENVIRONMENT)/.vit_dense-installed
# Let waiting threads sleep instead of spinning. With another process on one of two cores, spinning
# made training ten times slower.
export OMP_WAIT_POLICY ?= PASSIVE
EXTRAS ?= all,dev
CONSTRAINTS := requirements/constraints.txt

DEMO_DATA := data/demo
demo: DEMO := vit_upernet_demo
demo: SHOWN := input, truth, prediction
demo-det: DEMO := vit_maskrcnn_demo
demo-det: SHOWN := truth, prediction
# On two threads, steps this small take 1.5 times as long.
demo-det: export OMP_NUM_THREADS ?= 1
DEMO_WORK = work_dirs/$(DEMO)

.PHONY: help setup demo demo-det baseline docs test test-lora test-slow lint format typecheck check

help:
	@echo 'make setup      install vit_dense and what it needs (wheels only)'
	@echo 'make demo       write data, train, evaluate, draw pictures: a few minutes on two cores'
	@echo 'make demo-det   the same for detection: boxes and masks'
	@echo 'make baseline   the colour classifier that the demo is compared with'
	@echo 'make docs       build the documentation into site/'
	@echo 'make check      lint, typecheck and test, as CI does'
	@echo 'make test-lora  the tests that need the extra [peft], or transformers, which it brings'
	@echo 'make test-slow  the tests that take minutes'

setup: $(INSTALLED)

$(INSTALLED): setup.py $(CONSTRAINTS)
	test -x $(PYTHON) || python3 -m venv $(ENVIRONMENT)
	$(PYTHON) -m pip install -c $(CONSTRAINTS) -e '.[$(EXTRAS)]'
	touch $@
	@echo 'Ready. To use it: . $(ENVIRONMENT)/bin/activate'

# For targets that need an environment, but not an up-to-date one.
$(PYTHON):
	$(MAKE) setup

demo demo-det: setup
	$(PYTHON) -m examples.streets --out $(DEMO_DATA)
	$(PYTHON) tools/train.py configs/$(DEMO).py --work-dir $(DEMO_WORK) --seed 0
	$(PYTHON) tools/test.py configs/$(DEMO).py "$$(cat $(DEMO_WORK)/last_checkpoint)" \
	  --work-dir $(DEMO_WORK) | tee $(DEMO_WORK)/test.txt
	@echo
	@echo "Validation: $$(tail -n 1 $(DEMO_WORK)/test.txt)"
	@echo "Pictures ($(SHOWN)): $(DEMO_WORK)/pictures/test.png"
	@echo
	@echo "Use the model, on these images or your own:"
	@echo "  $(ENVIRONMENT)/bin/vit-dense predict $$(cat $(DEMO_WORK)/last_checkpoint) \\"
	@echo "    $(DEMO_DATA)/images/validation --out $(DEMO_WORK)/predictions"
	@echo "  $(ENVIRONMENT)/bin/vit-dense serve $$(cat $(DEMO_WORK)/last_checkpoint)"

baseline: setup
	$(PYTHON) -m benchmarks.colour_baseline --data $(DEMO_DATA)

# Every warning is an error: dead links, unknown names in API pages.
docs: | $(PYTHON)
	$(PYTHON) -m pip install -c $(CONSTRAINTS) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

# Not in `make test`: with transformers installed, importing mmengine takes seconds longer.
test-lora: | $(PYTHON)
	$(PYTHON) -m pip install -c $(CONSTRAINTS) -e '.[peft]'
	$(PYTHON) -m pytest tests/backbones/test_lora.py tests/backbones/test_ddp.py \
	  tests/apis/test_merge_lora.py tests/engine/test_fine_tuning.py tests/configs/test_configs.py \
	  tests/configs/test_head_recipes.py tests/benchmarks/test_layout_parity.py \
	  -k 'lora or transformers'

# loadfile: the tests of one file share fixtures.
test test-slow: PARALLEL ?= -n 2 --dist loadfile
test test-slow: export OMP_NUM_THREADS ?= 1
test: | $(PYTHON)
	$(PYTHON) -m pytest -m 'not slow' $(PARALLEL)

test-slow: | $(PYTHON)
	$(PYTHON) -m pytest -m slow $(PARALLEL)

lint: | $(PYTHON)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

format: | $(PYTHON)
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

typecheck: | $(PYTHON)
	$(PYTHON) -m mypy

check: lint typecheck test
