#!/usr/bin/env bash
# Question: on LetterStyles, two of whose five domains lie outside of pre-training, what do fine-tuning
#           and CAR-FT add to zero-shot CLIP, and what does either do to the recognition of contexts?
# Cost:     3 algorithms x 5 test domains x TRIALS (8) = 120 runs of 101 steps, two at a time:
#           5 minutes a trial and 40 in all on 2 cores, then the probe.
# Output:   OUTPUT (default: sweep_letterstyles_main): records, the tables in results.txt, probe/.
# Repeat the command to resume.
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
DATASET=LetterStyles TRIALS=${TRIALS:-8} exec bash "$HERE/digitstyles_main.sh" \
    "${1:-sweep_letterstyles_main}"
