#!/usr/bin/env bash
# Question: is there a variant of CAR-FT that beats the paper's, chosen on the training domains?
# Cost:     search: 8 variants and CLIP_ERM x 4 test domains x 3 trials = 108 runs of 201 steps;
#           confirmation of one variant: 3 sweeps x 4 x 5 new trials = 60 runs. About 50 s per run on
#           one core: 45 and 25 minutes on 2 cores.
# Output:   OUTPUT (default: sweep_digitstyles_carft_plus): a sweep per variant, and the tables.
#
#   sweeps/digitstyles_carft_plus.sh OUTPUT                 search on trials 0 to 2: choose by the
#                                                           column `validation` only
#   CONFIRM=ema sweeps/digitstyles_carft_plus.sh OUTPUT     run once: that variant, the paper's CAR-FT
#                                                           and CLIP_ERM on the new trials 3 to 7
# Repeat the command to resume. Commit acf1971 also searched variants that have been removed: λ rising
# or falling during training, the joint KL over contexts and classes, alone and with averages, and
# FLYP's loss with the context KL. docs/methods.md has their results.
set -eu
OUTPUT=${1:-sweep_digitstyles_carft_plus}
PYTHON=${PYTHON:-python}
HERE=$(cd "$(dirname "$0")" && pwd)
export DOMAINBED_CARFT_HOST=embedded
export DOMAINBED_CARFT_JOBS=${DOMAINBED_CARFT_JOBS:-2} OMP_NUM_THREADS=1

declare -A KNOBS=(
    [main]='{}'
    [lambda_0.3]='{"carft_lambda": 0.3}'
    [lambda_3]='{"carft_lambda": 3}'
    [lambda_10]='{"carft_lambda": 10}'
    [domains]='{"clip_contexts": "domains"}'
    [ema]='{"clip_average": "ema"}'
    [beta]='{"clip_average": "beta"}'
    [swad]='{"clip_average": "swad"}'
)

sweep() { # folder, trials, algorithms
    "$PYTHON" -m domainbed_carft.sweep launch --algorithms $3 --datasets DigitStyles \
        --single_test_envs --n_trials "$2" --n_hparams 1 --data_dir none --output_dir "$OUTPUT/$1" \
        --hparams "${KNOBS[$1]}" --eval_splits needed --command_launcher local --skip_confirmation
}

if [ -z "${CONFIRM:-}" ]; then
    for VARIANT in "${!KNOBS[@]}"; do sweep "$VARIANT" 3 CARFT; done
    sweep main 3 CLIP_ERM
    OMP_NUM_THREADS=$DOMAINBED_CARFT_JOBS "$PYTHON" -m domainbed_carft.wise_ft --input_dir "$OUTPUT/main"
    FOLDERS=("${!KNOBS[@]}")
    "$PYTHON" "$HERE/compare.py" "${FOLDERS[@]/#/$OUTPUT/}" --baseline CARFT --trials 0 1 2 \
        --output_dir "$OUTPUT/search"
else
    [ -n "${KNOBS[$CONFIRM]:-}" ] || { echo "CONFIRM must be one of ${!KNOBS[*]}" >&2; exit 2; }
    sweep main 8 "CLIP_ERM CARFT"
    sweep "$CONFIRM" 8 CARFT
    "$PYTHON" "$HERE/compare.py" "$OUTPUT/main" "$OUTPUT/$CONFIRM" --baseline CARFT \
        --trials 3 4 5 6 7 --output_dir "$OUTPUT/confirm"
fi
