#!/usr/bin/env bash
# Question: how do the two methods depend on the length of fine-tuning and on the learning rate?
# Cost:     96 runs of 101 to 401 steps; about 55 minutes on 2 cores, no GPU.
# Output:   OUTPUT (default: ablation_length): records, table.*. Needs MAIN (see ablation.sh).
source "$(dirname "$0")/ablation.sh"
default "201 steps, lr 3e-4"
setting "201 steps, lr 1e-4" "CLIP_ERM CARFT" '{"lr": 1e-4}'
setting "201 steps, lr 1e-3" "CLIP_ERM CARFT" '{"lr": 1e-3}'
setting "101 steps, lr 3e-4" "CLIP_ERM CARFT" '{"lr": 3e-4}' --steps 101
setting "401 steps, lr 3e-4" "CLIP_ERM CARFT" '{"lr": 3e-4}' --steps 401
table "201 steps, lr 3e-4 CLIP_ERM"
