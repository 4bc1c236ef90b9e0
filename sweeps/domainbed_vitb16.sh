#!/usr/bin/env bash
# Question: leaving out each domain of PACS, VLCS, OfficeHome, TerraIncognita and DomainNet, what
#           does CAR-FT add to plain fine-tuning and zero-shot CLIP? ViT-B/16, default knobs.
# Cost:     calculated, not measured. A forward pass is 35.1 GFLOPs per image, a training step 3
#           times that, 4 with CAR-FT's frozen copy (benchmarks/flops.py). A trial trains on 16
#           test domains x 5,001 steps x 96 images and DomainNet's 6 x 5,001 x 160: 12.5 M images.
#           At 125e12 FLOPs per second (40 % of an A100's bf16 peak): CLIP_ERM 2.9 hours, CARFT 3.9.
#           Evaluation reads about 10 M images per algorithm and trial: 0.8 hours, or 2.4 for three
#           algorithms. 3 trials: 28 GPU hours. This assumes that data loading keeps up: evaluation
#           reads 3,600 images per second. More processes (DOMAINBED_CARFT_N_WORKERS, by default 4
#           per loader) or a clip_cache help.
#           Memory: 1.4 GB of weights and optimizer, 0.2 GB frozen copy, 50 MB of activations per
#           image in bf16 (benchmarks/step_count.py): 6 GB, 9 GB for DomainNet.
# Output:   OUTPUT (default: sweep_domainbed_vitb16): records, and the tables in results.txt.
# Repeat the command to resume. LAUNCHER=multi_gpu uses all GPUs.
set -eu
DATA=${1:?usage: domainbed_vitb16.sh DATA_DIR [OUTPUT]   (docs/datasets.md: layout of DATA_DIR)}
OUTPUT=${2:-sweep_domainbed_vitb16}
TRIALS=${TRIALS:-3}
LAUNCHER=${LAUNCHER:-local}
PYTHON=${PYTHON:-python}
export DOMAINBED_CARFT_HOST=embedded
"$PYTHON" -m domainbed_carft.sweep launch --algorithms CLIP_ZeroShot CLIP_ERM CARFT \
    --datasets PACS VLCS OfficeHome TerraIncognita DomainNet --single_test_envs \
    --n_trials "$TRIALS" --n_hparams 1 --data_dir "$DATA" --output_dir "$OUTPUT" \
    --eval_splits needed --command_launcher "$LAUNCHER" --skip_confirmation
"$PYTHON" -m domainbed_carft.collect_results --input_dir "$OUTPUT"
