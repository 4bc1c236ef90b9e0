# make demo: everything from nothing on one machine, no GPU, no data, no DomainBed.
# make results: the README's first table, and the probe of what its models see, from nothing.
# make bench: speed and memory, into docs/speed.md, in under 15 minutes.
# make test: what the project checks itself with. make check: a minute of it, while one works.
PYTHON ?= python3
VENV ?= .venv
OUTPUT ?= demo_output
BIN := $(VENV)/bin
SWEEP := --algorithms CLIP_ZeroShot CLIP_ERM CARFT --datasets DigitStyles --single_test_envs \
	--n_trials 1 --n_hparams 1 --data_dir none --output_dir $(OUTPUT) \
	--eval_splits needed --command_launcher local --skip_confirmation

.PHONY: demo results test check bench clean

# One thread a job, as in sweeps/digitstyles_main.sh: the same numbers on any number of cores.
demo: export DOMAINBED_CARFT_HOST = embedded
demo: export OMP_NUM_THREADS = 1
demo: export DOMAINBED_CARFT_JOBS = 2
demo: $(VENV)/installed
	$(BIN)/carft sweep launch $(SWEEP)
	$(BIN)/carft collect_results --input_dir $(OUTPUT)
	@echo "Next, tables with intervals and plots in one page: $(BIN)/carft report --input_dir $(OUTPUT)"

results: $(VENV)/installed
	PYTHON=$(BIN)/python bash sweeps/digitstyles_main.sh

test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# What is fast and breaks first: the rooms, the method, the readers of records.
CHECK := rooms losses objectives preprocess averaging metrics stats methods trainer \
	environment scan gaps tables
check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n auto $(wildcard $(CHECK:%=tests/test_%.py))

bench: $(VENV)/installed
	$(BIN)/python benchmarks

# DomainBed's own imports come along, so that the tests on a checkout of it can run (they are
# skipped where there is none).
$(VENV)/installed: setup.py domainbed_carft/__init__.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test,domainbed,hf]'
	touch $@

clean:
	rm -rf $(VENV) $(OUTPUT) build *.egg-info
