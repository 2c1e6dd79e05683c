#!/usr/bin/env bash
# Make or reuse the .venv of this checkout from requirements.lock (called by `make venv`).
#
# Environment: PYTHON   the interpreter to use (default: the first one in range)
#              PIP_ARGS more arguments for pip, e.g. '--extra-index-url URL'
# Exit status: 0 done, 1 an install failed, 2 no fitting Python.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv
lock=requirements.lock
stamp=$venv/.lock-stamp        # what a finished install was made from
pending=$venv/.install-pending # there while an install runs: left behind by one that was cut off
in_range='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))'

die() {
    local status=$1
    shift
    printf '%s\n' "$@" >&2
    exit "$status"
}

# Runs the candidate, since a command that is found may still be a shim without an interpreter.
usable() { "$1" -c "$in_range" 2>/dev/null; }
has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

find_python() {
    local candidate without_venv=
    if [[ -n ${PYTHON:-} ]]; then
        usable "$PYTHON" || die 2 "PYTHON=$PYTHON is no working Python 3.10 to 3.13"
        has_venv "$PYTHON" || die 2 "PYTHON=$PYTHON has no venv module (Debian: apt-get install python3-venv)"
        printf '%s' "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
        usable "$candidate" || continue
        if has_venv "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
        without_venv=${without_venv:-$candidate}
    done
    if [[ -n $without_venv ]]; then
        die 2 "$without_venv has no venv module (Debian: apt-get install python3-venv)"
    fi
    die 2 'no Python 3.10 to 3.13 found (python3, python3.13, ..., python3.10, python);' \
        'install one, or name it: make venv PYTHON=/path/to/python3.11'
}

# The lock file, the interpreter's version, and the place of the checkout, which the editable
# install holds: a checkout that was moved or copied needs its own.
fingerprint() {
    "$1" -c 'import hashlib, os, sys
digest = hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest()
print(digest, "%d.%d" % sys.version_info[:2], os.getcwd())' "$lock"
}

check_cv2() {
    local error
    if error=$("$venv/bin/python" -c 'import cv2' 2>&1); then
        return
    fi
    die 1 "$error" '' 'OpenCV does not load. On Debian or Ubuntu its system libraries come with:' \
        '    apt-get update && apt-get install -y libgl1 libglib2.0-0'
}

up_to_date() {
    [[ -f $stamp && ! -e $pending ]] || return 1
    usable "$venv/bin/python" || return 1
    # Another interpreter asked for by name counts; the default one may change under a venv.
    [[ $(cat "$stamp") == "$(fingerprint "${PYTHON:-$venv/bin/python}")" ]]
}

install() {
    local python=$1 pip_args=()
    read -r -a pip_args <<<"${PIP_ARGS:-}"
    # A venv made by hand (no stamp, nothing pending) is filled; any other one that does not fit
    # is made anew, as pip takes a half-installed package for an installed one.
    if [[ -e $stamp || -e $pending || ! -x $venv/bin/pip ]] || ! usable "$venv/bin/python" ||
        [[ -n ${PYTHON:-} && $(fingerprint "$PYTHON") != "$(fingerprint "$venv/bin/python")" ]]; then
        echo "making $venv with $("$python" --version)"
        mkdir -p "$venv"
        "$python" -m venv --clear "$venv"
    fi
    : >"$pending"
    rm -f "$stamp"
    local pip=("$venv/bin/python" -m pip --disable-pip-version-check install
        --quiet ${pip_args[@]+"${pip_args[@]}"})
    echo "installing $lock (minutes, once)"
    "${pip[@]}" -r "$lock"
    # setuptools comes from the lock, so this last part needs no network.
    "${pip[@]}" --no-deps --no-build-isolation --no-index -e .
    fingerprint "$venv/bin/python" >"$stamp"
    rm -f "$pending"
}

[[ -f $lock ]] || die 1 "$lock is missing from $PWD"
# One install at a time: `make test` and `make demo` may be started together.
if command -v flock >/dev/null; then
    exec 9<"$lock"
    flock 9
fi
if ! up_to_date; then
    python=$(find_python)
    install "$python" 9<&-
fi
check_cv2
