#!/usr/bin/env bash
# Question: fine-tuned on ImageNet, what do CAR-FT and plain fine-tuning keep on the five shifted
#           sets? CLIP ViT-B/16; with α = 0.5, WiSE-FT's average with zero-shot CLIP, too.
# Cost:     calculated, not measured. A forward pass is 35.1 GFLOPs per image, a training step 3
#           times that, 4 with CAR-FT's frozen copy (benchmarks/flops.py). 50,000 steps x 256
#           images: 1.35e18 FLOPs plain, 1.80e18 CAR-FT. At 125e12 per second (40 % of an A100's
#           bf16 peak), 3.0 and 4.0 hours, so 7 GPU hours per trial. Evaluation adds less than 0.2.
#           ALGORITHMS="..." chooses other methods. Hours: CLIP_LP 1.0, CLIP_CoOp 1.5 (a text of each
#           of the 1,000 classes in each step), CLIP_LPFT 2.8, CLIP_L2SP, CLIP_FTP and CLIP_CLIPood
#           3.0, CLIP_FLYP 3.1, CLIP_Distill, CLIP_MIRO and CLIP_LipsumFT 4.0, CLIP_CaRot 4.1. All
#           thirteen: 40 GPU hours.
#           At that speed, 900 to 1,200 images per second must be read: use many loader
#           processes (DOMAINBED_CARFT_N_WORKERS, by default 8) or a clip_cache.
#           Memory: 86 M weights x 16 bytes, frozen copy 0.2 GB, 50 MB of activations per image
#           in bf16: 14 GB at batch 256 (benchmarks/step_count.py).
# Output:   OUTPUT (default: sweep_imagenet_vitb16): records, evaluate_imagenet*.json, table.md.
# Recipe:   Lipsum-FT's (AdamW, lr 1e-5, no weight decay, batch 256, 50,000 steps, 10 % warm-up),
#           with which results of other methods are published. CAR-FT's recipe is not known.
# Repeat the command to resume.
set -eu
DATA=${1:?usage: imagenet_vitb16.sh DATA_DIR [OUTPUT]   (docs/datasets.md: layout of DATA_DIR)}
OUTPUT=${2:-sweep_imagenet_vitb16}
TRIALS=${TRIALS:-1}
ALGORITHMS=${ALGORITHMS:-CLIP_ERM CARFT}
PYTHON=${PYTHON:-python}
HPARAMS='{"batch_size": 256, "lr": 1e-5, "weight_decay": 0.0, "clip_transform": "clip"}'
export DOMAINBED_CARFT_HOST=embedded
mkdir -p "$OUTPUT"
"$PYTHON" -m domainbed_carft.evaluate --zero_shot --suite imagenet --data_dir "$DATA" \
    --hparams '{"clip_transform": "clip"}' --output_file "$OUTPUT/zero_shot.json"
for trial in $(seq 0 $((TRIALS - 1))); do
    for algorithm in $ALGORITHMS; do
        run="$OUTPUT/${algorithm}_$trial"
        "$PYTHON" -m domainbed_carft.train --dataset ImageNet --algorithm "$algorithm" \
            --data_dir "$DATA" --test_envs 1 --holdout_fraction 0.01 --steps 50000 \
            --checkpoint_freq 10000 --trial_seed "$trial" --seed "$trial" --hparams "$HPARAMS" \
            --eval_splits needed --output_dir "$run"
        "$PYTHON" -m domainbed_carft.evaluate --run "$run" --suite imagenet --alpha 0.5 1
    done
done
"$PYTHON" -m domainbed_carft.evaluate --output_file "$OUTPUT/table.md" \
    --table "$OUTPUT/zero_shot.json" "$OUTPUT"/*/evaluate_imagenet.json
