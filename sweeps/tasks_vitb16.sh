#!/usr/bin/env bash
# Question: on eleven downstream tasks, what does CAR-FT add to plain fine-tuning and zero-shot
#           CLIP? ViT-B/16; the task's conventional accuracy on its official test images.
# Cost:     calculated, not measured. A forward pass is 35.1 GFLOPs per image, a training step 3
#           times that, 4 with CAR-FT's frozen copy (benchmarks/flops.py). 5,001 steps x 128
#           images: at 125e12 FLOPs per second (40 % of an A100's bf16 peak), 0.15 hours for plain
#           fine-tuning and 0.20 for CAR-FT. 11 tasks x 3 trials: 12 GPU hours, and about 1 for
#           evaluation. Memory: 1.4 GB of weights and optimizer, 0.2 GB frozen copy, 50 MB of
#           activations per image in bf16: 8 GB at batch 128 (benchmarks/step_count.py).
# Output:   OUTPUT (default: sweep_tasks_vitb16): records, evaluate_TASK.json, table.md.
# Repeat the command to resume. TASKS="DTD EuroSAT" selects some of the tasks.
set -eu
DATA=${1:?usage: tasks_vitb16.sh DATA_DIR [OUTPUT]   (docs/datasets.md: layout of DATA_DIR)}
OUTPUT=${2:-sweep_tasks_vitb16}
TRIALS=${TRIALS:-3}
PYTHON=${PYTHON:-python}
TASKS=${TASKS:-Flowers102 FGVCAircraft CIFAR10 CIFAR100 StanfordCars Food101 OxfordIIITPet DTD SUN397 Caltech101 EuroSAT}
HPARAMS='{"batch_size": 128, "clip_transform": "clip"}'
export DOMAINBED_CARFT_HOST=embedded
mkdir -p "$OUTPUT"
for task in $TASKS; do
    "$PYTHON" -m domainbed_carft.evaluate --zero_shot --dataset "$task" --environments test \
        --data_dir "$DATA" --hparams '{"clip_transform": "clip"}' \
        --output_file "$OUTPUT/zero_shot_$task.json"
    for trial in $(seq 0 $((TRIALS - 1))); do
        for algorithm in CLIP_ERM CARFT; do
            run="$OUTPUT/${task}_${algorithm}_$trial"
            "$PYTHON" -m domainbed_carft.train --dataset "$task" --algorithm "$algorithm" \
                --data_dir "$DATA" --test_envs 1 --holdout_fraction 0.1 --trial_seed "$trial" \
                --seed "$trial" --hparams "$HPARAMS" --eval_splits needed --output_dir "$run"
            "$PYTHON" -m domainbed_carft.evaluate --run "$run" --dataset "$task" \
                --environments test --output_file "$run/evaluate_$task.json"
        done
    done
done
"$PYTHON" -m domainbed_carft.evaluate --output_file "$OUTPUT/table.md" \
    --table "$OUTPUT"/zero_shot_*.json "$OUTPUT"/*/evaluate_*.json
