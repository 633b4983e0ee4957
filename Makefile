# PYTHON=/path/to/python uses an environment that is already complete, and installs nothing into it.
# Without it, everything happens in .venv, which is set up again when requirements/ or setup.py change.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo race gpu soak fuzz zoo test test-all lint types clean check

WORKERS ?= 2

# So that the code here is the code that runs, whatever is installed.
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))

setup demo race gpu soak fuzz zoo test test-all: roles = runtime nodeps tasks
setup gpu soak fuzz test test-all: roles += tests
setup lint types: roles += dev

ifdef PYTHON
ready := check
else
PYTHON := .venv/bin/python
ready := .venv/.complete
endif

help:
	@echo 'make setup            install everything into .venv'
	@echo 'make demo [TASK=...]  train, test and draw four tasks on the images in data/demo'
	@echo 'make race             train ScopeViT and peers by one recipe on small images, and compare'
	@echo 'make gpu [ARGS=...]   check everything on a GPU within 8 minutes (--device cpu: without one)'
	@echo 'make soak [ARGS=...]  kill trainings at random for 30 minutes, and compare how they end'
	@echo 'make fuzz [ARGS=...]  damage 10,000 inputs at random, and see that none does harm'
	@echo 'make zoo [ARGS=...]   try every config of the libraries, for hours (--sample: one a family)'
	@echo 'make test [ARGS=...]  run the tests that are not slow; ARGS go to pytest'
	@echo 'make test-all         run all tests'
	@echo 'make lint             check style and formatting'
	@echo 'make types            check types'
	@echo 'make clean            remove caches and build leftovers; .venv and work_dirs stay'

setup: $(ready)

demo: $(ready)
	"$(PYTHON)" tools/demo/run.py $(if $(TASK),--task $(TASK))

race: $(ready)
	"$(PYTHON)" tools/benchmark/race.py $(ARGS)

gpu: $(ready)
	"$(PYTHON)" tools/gpu/check.py $(ARGS)

soak: $(ready)
	"$(PYTHON)" tests/soak.py $(ARGS)

fuzz: $(ready)
	OMP_NUM_THREADS=1 "$(PYTHON)" tests/fuzz.py $(ARGS)

zoo: $(ready)
	OMP_NUM_THREADS=1 "$(PYTHON)" tools/compat/zoo.py $(ARGS)

# ARGS come last, for their -m to be the one that counts: ARGS='-m slow' runs the rest.
test: choice := -m 'not slow'
# One thread a worker: more than there are cores slow one another down. A worker that is done takes
# tests from the other's end, so that most tests of a file share what they load.
test test-all: $(ready)
	OMP_NUM_THREADS=1 "$(PYTHON)" -m pytest -n $(WORKERS) --dist worksteal $(choice) $(ARGS)

lint: $(ready)
	"$(PYTHON)" -m ruff check
	"$(PYTHON)" -m ruff format --check

types: $(ready)
	"$(PYTHON)" -m mypy

clean:
	rm -rf build dist *.egg-info .dist_test .pytest_cache .ruff_cache .mypy_cache
	find . -path ./.venv -prune -o -name __pycache__ -prune -exec rm -rf {} +

# Touched by the script when it is done, so what was interrupted does not count.
.venv/.complete: $(wildcard requirements/*.txt) setup.py tools/install.sh
	tools/install.sh

check:
	@tools/install.sh --check "$(PYTHON)" $(roles)
