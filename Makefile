# The targets for users and developers; `make` alone explains them.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-slurm fuzz lint real report watch status cancel docs lock clean
SHELL := /bin/bash
BIN := .venv/bin
CORES ?= $(shell nproc)
STUDY ?= .
FUZZ ?= 10000
KIND := $(if $(filter 1,$(GPU)),gpu,cpu)
export PATH := $(CURDIR)/.venv/bin:$(PATH)

help: ## say what the targets do
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

setup: ## install the locked environment into .venv (GPU=1: with CUDA)
	@envs/setup.sh $(KIND)

demo: setup ## the whole pipeline on simulated volumes; ends by naming the report
	snakemake --cores $(CORES) --directory examples/demo --quiet rules
	@echo
	@echo "The report:       $(CURDIR)/examples/demo/results/report.html"
	@echo "To go on by hand: . $(CURDIR)/.venv/bin/activate"

test: setup ## the tests, in minutes
	pytest

test-all: setup test-slurm ## also the slow tests, and every fault on SLURM
	pytest -m "(slow or not slow) and not slurm"

test-slurm: setup ## every fault and ten killings, on the SLURM of this machine
	pytest -n 0 -rs -m slurm

fuzz: setup ## 10,000 damaged headers a format (FUZZ=, SEED=)
	@seed=$${SEED:-$$RANDOM}; echo "make fuzz: seed $$seed"; \
	TOMOGLEAN_FUZZ=$(FUZZ) TOMOGLEAN_FUZZ_SEED=$$seed \
	pytest -rP -m "slow or not slow" tests/test_fuzz.py

lint: setup ## style, types, workflow style
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile rules
	snakemake --lint

real: setup ## the studies on real data; TOMOGLEAN_DATA names their folder
	@if [ -z "$$TOMOGLEAN_DATA" ]; then \
	  echo "make real: TOMOGLEAN_DATA is not set; export TOMOGLEAN_DATA=/folder/with/the/sets"; exit 0; fi; \
	for study in sandstone isbi; do \
	  snakemake --cores $(CORES) --directory examples/$$study --quiet rules || exit 1; \
	  echo "The report: $(CURDIR)/examples/$$study/results/report.html"; done

report: setup ## rebuild the report of STUDY=folder without running anything
	@python -m tomoglean report $(STUDY)

watch: setup ## run STUDY=folder again whenever new data arrive (ARGS="--profile slurm")
	@python -m tomoglean watch $(STUDY) -- $(ARGS)

status: setup ## tell who runs STUDY=folder, how its jobs stand and what failed
	@python -m tomoglean status $(STUDY)

cancel: setup ## end the run of STUDY=folder; trainings save first
	@python -m tomoglean cancel $(STUDY)

docs: setup ## write the pages that are made from the schemas
	python -m tomoglean docs

lock: ## compile the locks and conda files from envs/*.in (needs uv)
	python3 envs/lock.py

clean: ## remove the environment and the demo's results
	rm -rf .venv examples/demo/results examples/demo/logs examples/demo/.snakemake examples/demo/.tomoglean
