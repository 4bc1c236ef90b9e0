#!/usr/bin/env bash
# Question: DomainBed's way on LetterStyles: the same random draws of the knobs for both methods, all
#           three rules of selection. What does CAR-FT add then?
# Cost:     270 runs (DRAWS=3, TRIALS=3) of 101 steps: 2 algorithms x (5 domains and 10 pairs) x 9;
#           about 85 minutes on 2 cores with other load, no GPU (60 runs of single domains took 17
#           minutes, 60 of pairs 19). With SINGLE=1 90 runs, and with TRIALS=1 90 runs.
#           Soups take 30 minutes more (SOUP= skips them).
# Output:   OUTPUT (default: sweep_letterstyles_hparams), as digitstyles_hparams.sh has it, with soups.
# Repeat the command to resume. A smaller version, whose records are in results/: SINGLE=1 TRIALS=5,
# and then TRIALS=1 SOUP= without SINGLE, which adds the pairs of trial 0 without soups.
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
DATASET=LetterStyles SOUP=${SOUP-1} exec bash "$HERE/digitstyles_hparams.sh" "${1:-sweep_letterstyles_hparams}"
