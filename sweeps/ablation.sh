# Sourced by the ablation scripts: OUTPUT, and `setting` and `table` below.
#
# Every setting is a sweep of its own in OUTPUT/NAME, over all test domains, with TRIALS trials.
# MAIN is a sweep made by digitstyles_main.sh: its runs stand for the default setting.
set -eu
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
OUTPUT=${1:-$(basename "$0" .sh)}
MAIN=${MAIN:-sweep_digitstyles_main}
TRIALS=${TRIALS:-3}
PYTHON=${PYTHON:-python}
export DOMAINBED_CARFT_HOST=embedded OMP_NUM_THREADS=1
export DOMAINBED_CARFT_JOBS=${DOMAINBED_CARFT_JOBS:-2}
if [ ! -d "$MAIN" ]; then
    echo "No folder $MAIN: run sweeps/digitstyles_main.sh first, or say MAIN=its output" >&2
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

# default NAME [ALGORITHM]: the runs of MAIN, where they are to stand in the table
default() {
    SETTINGS+=("$1=$MAIN${2:+:$2}")
}

# table FIRST: FIRST is the row that the others are compared with; --curve draws them, too
table() {
    "$PYTHON" "$HERE/ablation.py" --output_dir "$OUTPUT" --trials "$TRIALS" --reference "$@" \
        --settings "${SETTINGS[@]}"
}
