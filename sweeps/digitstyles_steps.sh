#!/usr/bin/env bash
# Question: how do context recognition and the context KL move during training?
# Cost:     8 runs of 201 steps (trial 0, every test domain), then the probe of 5 models each; about 4
#           minutes on 2 cores, no GPU.
# Output:   OUTPUT (default: sweep_digitstyles_steps): runs with all their models, probe/.
set -eu
OUTPUT=${1:-sweep_digitstyles_steps}
PYTHON=${PYTHON:-python}
export DOMAINBED_CARFT_HOST=embedded OMP_NUM_THREADS=1
for algorithm in CLIP_ERM CARFT; do
    for env in 0 1 2 3; do
        echo "--algorithm $algorithm --test_envs $env --output_dir $OUTPUT/$algorithm-$env"
    done
done | xargs -P "${DOMAINBED_CARFT_JOBS:-2}" -L 1 "$PYTHON" -m domainbed_carft.train --dataset DigitStyles \
    --save_model_every_checkpoint --eval_splits needed
"$PYTHON" -m domainbed_carft.probe --input_dir "$OUTPUT"
