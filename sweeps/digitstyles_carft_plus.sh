#!/usr/bin/env bash
# Question: is there a variant of CAR-FT that beats the paper's, chosen on the training domains?
# Cost:     search: 15 variants x 4 test domains x 3 trials = 180 runs of 201 steps; confirmation of
#           one variant: 3 more sweeps x 4 x 5 fresh trials = 60 runs. About 70 s a run on one core,
#           two at a time on 2 cores: 1.8 hours, and 35 minutes.
# Output:   OUTPUT (default: sweep_digitstyles_carft_plus): a sweep per variant, and the tables.
#
#   sweeps/digitstyles_carft_plus.sh OUTPUT                 search, trials 0 to 2: look at the column
#                                                           `validation`, and nowhere else
#   CONFIRM=joint sweeps/digitstyles_carft_plus.sh OUTPUT   once: that variant, the paper's CAR-FT and
#                                                           CLIP_ERM on the fresh trials 3 to 7
# Running it again goes on where it was stopped.
set -eu
OUTPUT=${1:-sweep_digitstyles_carft_plus}
PYTHON=${PYTHON:-python}
HERE=$(cd "$(dirname "$0")" && pwd)
export DOMAINBED_CARFT_HOST=embedded
export DOMAINBED_CARFT_JOBS=${DOMAINBED_CARFT_JOBS:-2} OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

declare -A KNOBS=(
    [main]='{}'
    [lambda_0.3]='{"carft_lambda": 0.3}'
    [lambda_3]='{"carft_lambda": 3}'
    [lambda_10]='{"carft_lambda": 10}'
    [rising]='{"carft_schedule": "rising"}'
    [falling]='{"carft_schedule": "falling"}'
    [joint]='{"carft_target": "joint"}'
    [joint_lambda_3]='{"carft_target": "joint", "carft_lambda": 3.0}'
    [domains]='{"clip_contexts": "domains"}'
    [ema]='{"clip_average": "ema"}'
    [beta]='{"clip_average": "beta"}'
    [swad]='{"clip_average": "swad"}'
    [joint_ema]='{"carft_target": "joint", "clip_average": "ema"}'
    [joint_beta]='{"carft_target": "joint", "clip_average": "beta"}'
    [flyp]='{"flyp_context_lambda": 1.0}'
)
declare -A ALGORITHM=([flyp]=CLIP_FLYP) # of the others: CARFT

sweep() { # folder, trials, algorithms
    "$PYTHON" -m domainbed_carft.sweep launch --algorithms $3 --datasets DigitStyles \
        --single_test_envs --n_trials "$2" --n_hparams 1 --data_dir none --output_dir "$OUTPUT/$1" \
        --hparams "${KNOBS[$1]}" --eval_splits needed --command_launcher local --skip_confirmation
}

if [ -z "${CONFIRM:-}" ]; then
    for VARIANT in "${!KNOBS[@]}"; do
        sweep "$VARIANT" 3 "${ALGORITHM[$VARIANT]:-CARFT}"
    done
    sweep main 3 CLIP_ERM
    OMP_NUM_THREADS=$DOMAINBED_CARFT_JOBS "$PYTHON" -m domainbed_carft.wise_ft --input_dir "$OUTPUT/main"
    FOLDERS=("${!KNOBS[@]}")
    "$PYTHON" "$HERE/compare.py" "${FOLDERS[@]/#/$OUTPUT/}" --baseline CARFT --trials 0 1 2 \
        --save "$OUTPUT/search"
else
    [ -n "${KNOBS[$CONFIRM]:-}" ] || { echo "CONFIRM must be one of ${!KNOBS[*]}" >&2; exit 2; }
    sweep main 8 "CLIP_ERM CARFT"
    sweep "$CONFIRM" 8 "${ALGORITHM[$CONFIRM]:-CARFT}"
    "$PYTHON" "$HERE/compare.py" "$OUTPUT/main" "$OUTPUT/$CONFIRM" --baseline CARFT \
        --trials 3 4 5 6 7 --save "$OUTPUT/confirm"
fi
