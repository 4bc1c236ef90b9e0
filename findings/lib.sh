# Sourced by the scripts of this folder, not run by itself.
# Makes a folder that goes when the script ends, with a virtual environment of its own.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH
export PYTHONNOUSERSITE=1 HF_HOME="$work/hf" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1

# install PACKAGE==VERSION ...: PYTHON is the Python to use, python3 if unset. FINDINGS_SITE may
# name a site-packages folder that has PyTorch already; other versions in it are not used.
install() {
    "${PYTHON:-python3}" -m venv "$work/venv"
    if [ -n "${FINDINGS_SITE:-}" ]; then
        echo "$FINDINGS_SITE" > "$(echo "$work"/venv/lib/python3*/site-packages)/site.pth"
    fi
    "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    echo "installed: $*"
}

# run < PROGRAM: what it prints goes to the screen, and to expect.
run() {
    (cd "$work" && venv/bin/python -W ignore - 2> errors | tee out) || {
        cat "$work/errors"
        return 1
    }
}

# expect < OUTPUT: ends the script with 1 if the program printed anything else.
expect() {
    if diff -u --label "seen before" --label now - "$work/out"; then
        echo "unchanged"
    else
        echo "changed: see the difference above"
        exit 1
    fi
}
