#!/usr/bin/env bash
# Question: on LetterStyles, which method, and which average of weights, does best under one recipe?
# Cost:     14 algorithms x 5 test domains x TRIALS (5) = 350 runs of 101 steps, of 5 to 90 s on one
#           core, two at a time: 2 hours on 2 cores. Each average in KINDS (ema beta swad) adds 50
#           runs, 20 minutes.
# Output:   OUTPUT (default: sweep_letterstyles_baselines), as digitstyles_baselines.sh has it.
#           WiSE-FT is left out, since equal_distance.sh has it. WISE=1 adds it.
# Repeat the command to resume.
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
DATASET=LetterStyles TRIALS=${TRIALS:-5} SINGLE=1 KINDS=${KINDS-ema beta swad} WISE=${WISE-} \
    exec bash "$HERE/digitstyles_baselines.sh" "${1:-sweep_letterstyles_baselines}"
