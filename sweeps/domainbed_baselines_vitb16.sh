#!/usr/bin/env bash
# Question: on the five data sets of DomainBed, CLIP ViT-B/16: which method does best under one recipe?
# Cost:     calculated, not measured, for 125e12 FLOPs per second (40 % of an A100's bf16 peak), if
#           data loading keeps up. A forward pass is 35.1 GFLOPs per image and 1.0 per text of 13
#           tokens. A training step is 3 forward passes. A step of CLIP_ERM has 32 images of each
#           training domain, so 5,001 steps are 51 PFLOPs (3 domains) or 84 (DomainNet: 5). All images
#           are evaluated at 18 (DomainNet: 6) checkpoints. Training relative to CLIP_ERM:
#           CLIP_ZeroShot 0, CLIP_LP 1/3, CLIP_CoOp 0.34 (DomainNet, with most classes: 0.43),
#           CLIP_LPFT 0.93, CLIP_L2SP, CLIP_FTP and CLIP_CLIPood 1, CLIP_FLYP 1.03, CARFT, CLIP_Distill
#           and CLIP_MIRO 1.33, CLIP_LipsumFT 1.34, CLIP_CaRot 1.37; all fourteen 13.3.
#
#                            SEARCH=reduced     SEARCH=full         one run of CLIP_ERM
#             PACS           20 GPU hours         840 GPU hours     0.13 h
#             VLCS           21                   850               0.13
#             OfficeHome     22                   900               0.13
#             TerraIncognita 24                 1,010               0.15
#             DomainNet     115                 7,560               0.46
#             WiSE-FT        43                 3,750
#             all           240                14,900
#
#           WiSE-FT: 11 values of alpha on all out splits and the target domains, of 13 methods, on
#           one GPU. Soups, only with SEARCH=full, since they average the runs of several sets of
#           knobs: at most 40 evaluations on out splits for the 20 runs of a trial, 270 hours more.
#           Since random batch sizes may be smaller, full costs less than that.
#           reduced, as in papers on CLIP: one set of knobs per method (the defaults), single test
#           domains, 3 trials. full, DomainBed's protocol: 20 sets of knobs, pairs of test domains for
#           leave-one-domain-out selection, 3 trials. GPU memory: 4 x 350 MB for weights, gradients
#           and AdamW's state, 350 MB for a frozen copy, plus activations; FLYP and CaRot train 150 M
#           numbers instead of 86 M, CoOp 8,192 (docs/methods.md; provenance.json of a run has its
#           trained_parameters and training_bytes).
#           Disk: 350 MB per run for model.pkl (FLYP and CaRot 600), which wise_ft and soup need: 0.4
#           TB for the 924 runs of reduced, 20 TB for the 51,240 of full (delete those you do not
#           interpolate).
# Output:   OUTPUT (default: sweep_domainbed_baselines_vitb16): records, results.txt with DomainBed's
#           tables for the three selection rules (leave-one-out is X with SEARCH=reduced), including
#           rows of WiSE-FT. There are 14 rows, and 13 with +WiSE (SEARCH=full: 39 with +Soup, too).
#           Published results with the authors' own recipe: CAR-FT 96.8 85.5 85.7 61.9 62.5 (PACS VLCS
#           OfficeHome TerraIncognita DomainNet). This script has not been run yet.
#
#   [SEARCH=reduced|full] [DATASETS="PACS VLCS"] [LAUNCHER=multi_gpu] \
#       /path/to/domainbed_carft/sweeps/domainbed_baselines_vitb16.sh ./domainbed/data [OUTPUT]
#
# Run it in the root of a checkout of DomainBed. Repeating the command starts the runs without a
# folder, or on the embedded host the runs that are not done. Tables are printed when all runs are
# done. Until then, the check before them prints the missing runs and the commands to run them.
set -eu
DATA=${1:?usage: domainbed_baselines_vitb16.sh DATA_DIR [OUTPUT]}
OUTPUT=${2:-sweep_domainbed_baselines_vitb16}
DATASETS=${DATASETS:-PACS VLCS OfficeHome TerraIncognita DomainNet}
SEARCH=${SEARCH:-reduced}
LAUNCHER=${LAUNCHER:-multi_gpu}
PYTHON=${PYTHON:-python}
case $SEARCH in
    reduced) FLAGS="--single_test_envs --n_hparams 1 --n_trials 3" ;;
    full) FLAGS="--n_hparams 20 --n_trials 3" ;;
    *) echo "SEARCH must be reduced or full, got $SEARCH" >&2; exit 2 ;;
esac
"$PYTHON" -m domainbed_carft.sweep launch --data_dir "$DATA" --output_dir "$OUTPUT" \
    --algorithms CLIP_ZeroShot CLIP_LP CLIP_ERM CLIP_LPFT CLIP_L2SP CLIP_FTP CLIP_Distill CLIP_FLYP \
    CLIP_MIRO CLIP_LipsumFT CLIP_CLIPood CLIP_CaRot CLIP_CoOp CARFT \
    --datasets $DATASETS $FLAGS --command_launcher "$LAUNCHER" --skip_confirmation
"$PYTHON" -m domainbed_carft.wise_ft --input_dir "$OUTPUT"
if [ "$SEARCH" = full ]; then
    "$PYTHON" -m domainbed_carft soup --input_dir "$OUTPUT"
fi
"$PYTHON" -m domainbed_carft.doctor --input_dir "$OUTPUT"
"$PYTHON" -m domainbed_carft.collect_results --input_dir "$OUTPUT"
