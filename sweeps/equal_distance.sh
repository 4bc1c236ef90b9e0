#!/usr/bin/env bash
# Question: at equal distance from zero-shot CLIP, which method has the highest accuracy on the test
#           domains? CARFT, CLIP_Distill, CLIP_LipsumFT, CLIP_L2SP and WiSE-FT, each over its strength.
# Cost:     25 settings x 4 test domains x 5 trials = 500 runs of 201 steps on DigitStyles, 40 s each
#           on one core: 500 x 40 / 2 cores = 2.8 hours. The probe evaluates test
#           domains 680 times (each run, and 9 more α for each of the 20 runs of CLIP_ERM), in one
#           process: 680 x 4 s = 0.8 hours. The times are estimates, from ablation_lambda.sh: this
#           script has not been run yet.
# Disk:     500 models of 4 MB.
# Output:   OUTPUT (default: sweep_equal_distance): records, and in probe/: distance.png and .csv (the
#           curves), equal_distance.* (differences from CARFT at equal distance, with intervals),
#           alignment.png and .* (accuracy by the zero-shot margin of the right class).
# Repeat the command to resume. DATASET and DATA choose another data set, e.g. DATASET=PACS DATA=/data.
set -eu
OUTPUT=${1:-sweep_equal_distance}
TRIALS=${TRIALS:-5}
DATASET=${DATASET:-DigitStyles}
DATA=${DATA:-none}
PYTHON=${PYTHON:-python}
export DOMAINBED_CARFT_HOST=embedded OMP_NUM_THREADS=1 DOMAINBED_CARFT_JOBS=${DOMAINBED_CARFT_JOBS:-2}

# launch ALGORITHM HPARAMS
launch() {
    "$PYTHON" -m domainbed_carft.sweep launch --algorithms "$1" --datasets "$DATASET" \
        --single_test_envs --n_trials "$TRIALS" --n_hparams 1 --data_dir "$DATA" \
        --output_dir "$OUTPUT" --eval_splits needed --command_launcher local \
        --skip_confirmation --hparams "$2"
}

launch CLIP_ERM '{}'
for value in 0.1 0.3 1 3 10 30; do
    launch CARFT "{\"carft_lambda\": $value}"
    launch CLIP_Distill "{\"distill_lambda\": $value}"
done
for value in 0.01 0.03 0.1 0.3 1 3; do launch CLIP_LipsumFT "{\"lipsum_lambda\": $value}"; done
for value in 0.001 0.01 0.1 1 10 100; do launch CLIP_L2SP "{\"l2sp_alpha\": $value}"; done
"$PYTHON" -m domainbed_carft.probe --input_dir "$OUTPUT" --alignment \
    --alpha 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 --alpha_of CLIP_ERM
