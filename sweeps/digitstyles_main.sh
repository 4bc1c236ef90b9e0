#!/usr/bin/env bash
# Question: on DigitStyles, leaving one domain out, what does CAR-FT add to plain fine-tuning?
# Cost:     60 runs of 201 steps; about 40 minutes on 2 cores, no GPU.
# Output:   OUTPUT (default: sweep_digitstyles_main): records, and the tables in results.txt.
# Running it again goes on where it was stopped.
set -eu
OUTPUT=${1:-sweep_digitstyles_main}
TRIALS=${TRIALS:-5}
PYTHON=${PYTHON:-python}
export DOMAINBED_CARFT_HOST=embedded
"$PYTHON" -m domainbed_carft.sweep launch --algorithms CLIP_ZeroShot CLIP_ERM CARFT \
    --datasets DigitStyles --single_test_envs --n_trials "$TRIALS" --n_hparams 1 --data_dir none \
    --output_dir "$OUTPUT" --eval_splits needed --command_launcher local --skip_confirmation
"$PYTHON" -m domainbed_carft.collect_results --input_dir "$OUTPUT"
