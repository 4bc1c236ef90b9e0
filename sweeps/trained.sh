#!/usr/bin/env bash
# Question: what is lost or won if less of the encoder is trained, or if CAR-FT's teacher moves?
# Cost:     16 settings (CLIP_ERM and CARFT with full tuning and six other choices, CARFT with two
#           moving teachers) x 3 test domains x TRIALS (5) = 240 runs of 101 steps on LetterStyles, and
#           45 for the learning rates that were not chosen.
# Output:   OUTPUT (default: sweep_trained): a folder of records for each setting; compare.txt, .md,
#           .tex, .csv and .png. Trained numbers and memory are in each run's provenance.json.
# Repeat the command to resume. DATASET, DATA and TEST_ENVS choose other data, as in
# equal_distance.sh, whose test domains are the defaults here, too.
# Learning rates: whole layers are trained with that of full tuning. For LoRA, normalisation and
# biases, RATES has 1, 3, 10, 30, 100 and 300 times that. Of these, the one goes on with which
# CLIP_ERM has the highest validation accuracy on the training domains, in trial 0, as a mean over
# the test domains.
set -eu
OUTPUT=${1:-sweep_trained}
TRIALS=${TRIALS:-5}
DATASET=${DATASET:-LetterStyles}
DATA=${DATA:-none}
TEST_ENVS=${TEST_ENVS:-1 3 4} # sign, stitch, beads
RATES=${RATES:-3e-4 1e-3 3e-3 1e-2 3e-2 1e-1}
LORA=${LORA:-lora_lr3e-3} LAYERNORM=${LAYERNORM:-layernorm_lr3e-2} BIAS=${BIAS:-bias_lr3e-2} # chosen
PYTHON=${PYTHON:-python}
HERE=$(dirname "$0")
export DOMAINBED_CARFT_HOST=embedded OMP_NUM_THREADS=1 DOMAINBED_CARFT_JOBS=${DOMAINBED_CARFT_JOBS:-2}
FOLDERS=("$OUTPUT/main")

launch() { # folder, trials, hparams, algorithms
    # shellcheck disable=SC2086
    "$PYTHON" -m domainbed_carft.sweep launch --algorithms $4 --datasets "$DATASET" \
        --single_test_envs --test_envs $TEST_ENVS --n_trials "$2" --n_hparams 1 \
        --data_dir "$DATA" --output_dir "$OUTPUT/$1" --hparams "$3" --eval_splits needed \
        --command_launcher local --skip_confirmation
    case " ${FOLDERS[*]} " in *" $OUTPUT/$1 "*) ;; *) FOLDERS+=("$OUTPUT/$1") ;; esac
}

launch main "$TRIALS" '{}' "CLIP_ERM CARFT"
for kind in lora layernorm bias; do
    for rate in $RATES; do
        launch "${kind}_lr$rate" 1 "{\"clip_train\": \"$kind\", \"lr\": $rate}" CLIP_ERM
    done
done
for folder in "$LORA" "$LAYERNORM" "$BIAS"; do
    hparams="{\"clip_train\": \"${folder%_lr*}\", \"lr\": ${folder#*_lr}}"
    launch "$folder" "$TRIALS" "$hparams" "CLIP_ERM CARFT"
done
launch attention "$TRIALS" '{"clip_train": "attention"}' "CLIP_ERM CARFT"
for k in 1 2; do
    launch "last_$k" "$TRIALS" "{\"clip_train\": \"last_k\", \"clip_last_k\": $k}" "CLIP_ERM CARFT"
done
for teacher in ema beta; do
    launch "teacher_$teacher" "$TRIALS" "{\"carft_teacher\": \"$teacher\"}" CARFT
done
"$PYTHON" "$HERE/compare.py" "${FOLDERS[@]}" --output_dir "$OUTPUT"
