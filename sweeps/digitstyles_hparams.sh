#!/usr/bin/env bash
# Question: DomainBed's way: the same random draws of the knobs for both methods, all three rules of
#           selection. What does CAR-FT add then?
# Cost:     180 runs (DRAWS=3, TRIALS=3) of 201 steps; about 70 minutes on 2 cores, no GPU. With
#           SINGLE=1 72 runs, 27 minutes.
# Output:   OUTPUT (default: sweep_digitstyles_hparams): records, the tables in results.txt.
# Leave-one-domain-out selection needs pairs of test domains, which are most of the cost. SINGLE=1
# skips them, and running without it later repeats no run. hparams seed 0 has the default knobs.
# DATASET chooses another data set that is shipped (letterstyles_hparams.sh), and SOUP=1 adds soups
# of the draws, 20 s on one core for each method, trial and choice of test domains.
set -eu
OUTPUT=${1:-sweep_digitstyles_hparams}
TRIALS=${TRIALS:-3}
DRAWS=${DRAWS:-3}
DATASET=${DATASET:-DigitStyles}
PYTHON=${PYTHON:-python}
export DOMAINBED_CARFT_HOST=embedded OMP_NUM_THREADS=1 DOMAINBED_CARFT_JOBS=${DOMAINBED_CARFT_JOBS:-2}
"$PYTHON" -m domainbed_carft.sweep launch --algorithms CLIP_ERM CARFT --datasets "$DATASET" \
    ${SINGLE:+--single_test_envs} --n_trials "$TRIALS" --n_hparams "$DRAWS" --data_dir none \
    --output_dir "$OUTPUT" --eval_splits needed --command_launcher local --skip_confirmation
if [ "${SOUP-}" ]; then "$PYTHON" -m domainbed_carft soup --input_dir "$OUTPUT"; fi
"$PYTHON" -m domainbed_carft.collect_results --input_dir "$OUTPUT"
