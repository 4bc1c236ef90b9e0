#!/usr/bin/env bash
# Question: on DigitStyles, what is lost or won if less of the encoder is trained, or if CAR-FT's
#           teacher moves?
# Cost:     with SINGLE=1: (8 settings of CLIP_ERM and CARFT + 2 teachers) x 4 test domains x TRIALS
#           (5) = 360 runs of 201 steps, of at most 75 s on one core, two at a time: at most 3.8 hours
#           on 2 cores. Trained numbers and memory are in each run's provenance.json.
# Output:   OUTPUT (default: sweep_digitstyles_trained): a folder of records and results.txt for each
#           setting; compare.txt, .md, .tex, .csv. This script has not been run yet.
# Repeat the command to resume. The learning rate is that of full tuning (3e-4), and ten times that
# for LoRA, biases and normalisation, whose folders end in _lr.
set -eu
OUTPUT=${1:-sweep_digitstyles_trained}
TRIALS=${TRIALS:-5}
PYTHON=${PYTHON:-python}
HERE=$(cd "$(dirname "$0")" && pwd)
export DOMAINBED_CARFT_HOST=embedded
export DOMAINBED_CARFT_JOBS=${DOMAINBED_CARFT_JOBS:-2} OMP_NUM_THREADS=1
FOLDERS=()

sweep() { # folder, hparams, algorithms
    "$PYTHON" -m domainbed_carft.sweep launch --algorithms $3 --datasets DigitStyles \
        ${SINGLE:+--single_test_envs} --n_trials "$TRIALS" --n_hparams 1 --data_dir none \
        --output_dir "$OUTPUT/$1" --hparams "$2" --eval_splits needed --command_launcher local \
        --skip_confirmation
    "$PYTHON" -m domainbed_carft.collect_results --input_dir "$OUTPUT/$1" > /dev/null
    FOLDERS+=("$OUTPUT/$1")
}

sweep main '{}' "CLIP_ERM CARFT"
sweep lora '{"clip_train": "lora"}' "CLIP_ERM CARFT"
sweep lora_lr '{"clip_train": "lora", "lr": 3e-3}' "CLIP_ERM CARFT"
sweep attention '{"clip_train": "attention"}' "CLIP_ERM CARFT"
sweep layernorm_lr '{"clip_train": "layernorm", "lr": 3e-3}' "CLIP_ERM CARFT"
sweep bias_lr '{"clip_train": "bias", "lr": 3e-3}' "CLIP_ERM CARFT"
sweep last_1 '{"clip_train": "last_k", "clip_last_k": 1}' "CLIP_ERM CARFT"
sweep last_2 '{"clip_train": "last_k", "clip_last_k": 2}' "CLIP_ERM CARFT"
sweep teacher_ema '{"carft_teacher": "ema"}' "CARFT"
sweep teacher_beta '{"carft_teacher": "beta"}' "CARFT"
"$PYTHON" "$HERE/compare.py" "${FOLDERS[@]}" --output_dir "$OUTPUT"
