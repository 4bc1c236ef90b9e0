#!/usr/bin/env bash
# Question: does an unmodified DomainBed give the same rows as the embedded host?
# Cost:     12 runs of 201 steps; about 10 minutes on 2 cores, no GPU.
# Output:   OUTPUT (default: sweep_digitstyles_real_host): records, the tables in results.txt.
# DOMAINBED_ROOT is a checkout of facebookresearch/DomainBed. DomainBed does not restart unfinished
# jobs. After an interrupted sweep, the check before the tables prints the commands to resume.
set -eu
OUTPUT=${1:-sweep_digitstyles_real_host}
TRIALS=${TRIALS:-1}
PYTHON=${PYTHON:-python}
export PYTHONPATH=$DOMAINBED_ROOT${PYTHONPATH:+:$PYTHONPATH}
export OMP_NUM_THREADS=1 DOMAINBED_CARFT_JOBS=${DOMAINBED_CARFT_JOBS:-2}
"$PYTHON" -m domainbed_carft.sweep launch --algorithms CLIP_ZeroShot CLIP_ERM CARFT \
    --datasets DigitStyles --single_test_envs --n_trials "$TRIALS" --n_hparams 1 --data_dir none \
    --output_dir "$OUTPUT" --command_launcher local --skip_confirmation
"$PYTHON" -m domainbed_carft.doctor --input_dir "$OUTPUT"
"$PYTHON" -m domainbed_carft.collect_results --input_dir "$OUTPUT"
