# Functions for the ablation scripts, which source this file.
#
# Each setting is a sweep in OUTPUT/NAME, over all test domains, with TRIALS trials. MAIN is a sweep
# of digitstyles_main.sh, whose runs are used for the default setting.
set -eu
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
OUTPUT=${1:-$(basename "$0" .sh)}
MAIN=${MAIN:-sweep_digitstyles_main}
TRIALS=${TRIALS:-3}
PYTHON=${PYTHON:-python}
export DOMAINBED_CARFT_HOST=embedded OMP_NUM_THREADS=1
export DOMAINBED_CARFT_JOBS=${DOMAINBED_CARFT_JOBS:-2}
if [ ! -d "$MAIN" ]; then
    echo "No folder $MAIN: run sweeps/digitstyles_main.sh first, or set MAIN to its output" >&2
    exit 1
fi
SETTINGS=()

# setting NAME "ALGORITHM ..." HPARAMS [FLAGS ...]
setting() {
    local name=$1 algorithms=$2 hparams=$3
    shift 3
    # shellcheck disable=SC2086  # algorithms are words
    "$PYTHON" -m domainbed_carft.sweep launch --algorithms $algorithms --datasets DigitStyles \
        --single_test_envs --n_trials "$TRIALS" --n_hparams 1 --data_dir none \
        --output_dir "$OUTPUT/$name" --eval_splits needed --command_launcher local \
        --skip_confirmation --hparams "$hparams" "$@"
    SETTINGS+=("$name=$OUTPUT/$name")
}

# default NAME [ALGORITHM]: add the runs of MAIN to the table
default() {
    SETTINGS+=("$1=$MAIN${2:+:$2}")
}

# table REFERENCE [--curve KNOB]: compare the settings with REFERENCE
table() {
    "$PYTHON" "$HERE/ablation.py" --output_dir "$OUTPUT" --trials "$TRIALS" --reference "$@" \
        --settings "${SETTINGS[@]}"
}
