#!/usr/bin/env bash
# Question: on DigitStyles, which method, and which average of weights, does best under one recipe?
# Cost:     with SINGLE=1: 20 algorithms x 4 test domains x TRIALS (5) = 400 runs of 201 steps, of 10
#           to 75 s on one core, about 48 on average, two at a time: 2.7 hours on 2 cores. Without
#           SINGLE, also pairs of test domains, which leave-one-domain-out selection needs: 1,000 runs,
#           6.7 hours. WiSE-FT takes 7 to 20 s per run, one at a time.
# Output:   OUTPUT (default: sweep_digitstyles_baselines): main/ and average_*/ with records and
#           results.txt; in main/ rows of WiSE-FT and of the dynamic ensemble, wise_ft.csv and .png;
#           compare.txt, .md, .tex, .csv.
# DATASET chooses another data set that is shipped, KINDS the averages, and WISE= skips WiSE-FT
# (letterstyles_baselines.sh).
# Repeat the command to resume. Running with SINGLE=1 and then without it repeats no run.
set -eu
OUTPUT=${1:-sweep_digitstyles_baselines}
TRIALS=${TRIALS:-5}
DATASET=${DATASET:-DigitStyles}
KINDS=${KINDS-ema beta swad}
WISE=${WISE-1}
PYTHON=${PYTHON:-python}
HERE=$(cd "$(dirname "$0")" && pwd)
export DOMAINBED_CARFT_HOST=embedded
export DOMAINBED_CARFT_JOBS=${DOMAINBED_CARFT_JOBS:-2} OMP_NUM_THREADS=1

sweep() { # folder, hparams, algorithms
    "$PYTHON" -m domainbed_carft.sweep launch --algorithms $3 --datasets "$DATASET" \
        ${SINGLE:+--single_test_envs} --n_trials "$TRIALS" --n_hparams 1 --data_dir none \
        --output_dir "$OUTPUT/$1" --hparams "$2" --eval_splits needed --command_launcher local \
        --skip_confirmation
}

sweep main '{}' "CLIP_ZeroShot CLIP_LP CLIP_ERM CLIP_LPFT CLIP_L2SP CLIP_FTP CLIP_Distill CLIP_FLYP \
    CLIP_MIRO CLIP_LipsumFT CLIP_CLIPood CLIP_CaRot CLIP_CoOp CARFT"
for KIND in $KINDS; do
    sweep "average_$KIND" "{\"clip_average\": \"$KIND\"}" "CLIP_ERM CARFT"
done
if [ "$WISE" ]; then # uses all cores, since no other job is running
    OMP_NUM_THREADS=$DOMAINBED_CARFT_JOBS "$PYTHON" -m domainbed_carft.wise_ft \
        --input_dir "$OUTPUT/main" --dynamic
fi
FOLDERS=("$OUTPUT/main")
for KIND in $KINDS; do FOLDERS+=("$OUTPUT/average_$KIND"); done
for FOLDER in "${FOLDERS[@]}"; do
    "$PYTHON" -m domainbed_carft.collect_results --input_dir "$FOLDER" > /dev/null
done
cat "$OUTPUT/main/results.txt"
"$PYTHON" "$HERE/compare.py" "${FOLDERS[@]}" --output_dir "$OUTPUT"
