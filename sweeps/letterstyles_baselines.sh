#!/usr/bin/env bash
# Question: on LetterStyles, which method, and which average of weights, does best under one recipe?
# Cost:     19 algorithms x 5 test domains x TRIALS (3) = 285 runs of 101 steps. About 75 s each
#           on one core, two at a time: 3 hours on 2 cores. An estimate: it has not been run yet.
# Output:   OUTPUT (default: sweep_letterstyles_baselines), as digitstyles_baselines.sh has it.
# Repeat the command to resume.
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
DATASET=LetterStyles TRIALS=${TRIALS:-3} SINGLE=1 exec bash "$HERE/digitstyles_baselines.sh" \
    "${1:-sweep_letterstyles_baselines}"
