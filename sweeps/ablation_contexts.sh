#!/usr/bin/env bash
# Question: which contexts must CAR-FT keep? They are the prompts of the zero-shot head, too.
# Cost:     60 runs of 201 steps; about 20 minutes on 2 cores, no GPU.
# Output:   OUTPUT (default: ablation_contexts): records, table.*. Needs MAIN (see ablation.sh).
# To resume, repeat the same command: the paths of the context files are part of the runs' arguments.
source "$(dirname "$0")/ablation.sh"
default all CARFT
for name in color source seven random_words; do
    setting $name CARFT "{\"clip_contexts\": \"$(dirname "$0")/contexts/$name.txt\"}"
done
setting training_domains CARFT '{"clip_contexts": "domains"}'
table all
