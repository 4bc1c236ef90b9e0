#!/usr/bin/env bash
# Question: on DigitStyles, leaving one domain out, what does CAR-FT add to plain fine-tuning, and
#           what does either do to the recognition of contexts?
# Cost:     60 runs of 201 steps, then the probe; 31 minutes on 2 cores with other load, no GPU.
# Output:   OUTPUT (default: sweep_digitstyles_main): records, the tables in results.txt, probe/.
# DATASET chooses another data set that is shipped (letterstyles_main.sh).
# Repeat the command to resume. Every job has one thread, so that results do not depend on the number
# of cores. DOMAINBED_CARFT_JOBS jobs run at a time.
set -eu
OUTPUT=${1:-sweep_digitstyles_main}
TRIALS=${TRIALS:-5}
DATASET=${DATASET:-DigitStyles}
PYTHON=${PYTHON:-python}
export DOMAINBED_CARFT_HOST=embedded OMP_NUM_THREADS=1 DOMAINBED_CARFT_JOBS=${DOMAINBED_CARFT_JOBS:-2}
"$PYTHON" -m domainbed_carft.sweep launch --algorithms CLIP_ZeroShot CLIP_ERM CARFT \
    --datasets "$DATASET" --single_test_envs --n_trials "$TRIALS" --n_hparams 1 --data_dir none \
    --output_dir "$OUTPUT" --eval_splits needed --command_launcher local --skip_confirmation
"$PYTHON" -m domainbed_carft.collect_results --input_dir "$OUTPUT"
"$PYTHON" -m domainbed_carft.probe --input_dir "$OUTPUT"
