#!/bin/sh
# Set up .venv from a hash-locked list: `envs/setup.sh cpu` or `envs/setup.sh gpu`.
# Repeatable, safe to interrupt: the stamp with the lock's hash is written last.
set -eu
kind=${1:-cpu}
here=$(cd "$(dirname "$0")/.." && pwd)
venv=$here/.venv
if [ "$kind" = cpu ] && grep -q '^gpu' "$venv/tomoglean-lock" 2>/dev/null; then
    kind=gpu # a GPU environment stays one; `make clean` begins anew
fi
lock=$here/envs/$kind.lock.txt
stamp=$venv/tomoglean-lock
case $kind in
cpu) size="0.6 GB (2.6 GB on disk)" ;;
gpu) size="3.4 GB" ;;
*) echo "setup: expected cpu or gpu, found '$kind'" >&2; exit 2 ;;
esac

# `tomoglean` as a command, so that it works in any folder
name_command() {
    printf '#!/bin/sh\nPYTHONPATH="%s${PYTHONPATH:+:$PYTHONPATH}" exec "%s/bin/python" -m tomoglean "$@"\n' \
        "$here" "$venv" >"$venv/bin/tomoglean.partial"
    chmod +x "$venv/bin/tomoglean.partial"
    mv "$venv/bin/tomoglean.partial" "$venv/bin/tomoglean"
}

wanted="$kind $(cat "$lock" "$here/envs/uv.lock.txt" | sha256sum | cut -d' ' -f1)"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    [ -x "$venv/bin/tomoglean" ] || name_command
    exit 0
fi

python=
for candidate in python3.13 python3.12 python3.11 python3; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    found=$(python3 -c 'import platform; print(platform.python_version())' 2>/dev/null || echo none)
    echo "setup: expected Python 3.11, 3.12 or 3.13, found $found; install one (Debian: apt install python3.11 python3.11-venv) or, on a cluster, load one (module avail python; module load python/3.11)" >&2
    exit 1
fi
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "setup: $python has no venv; install it (Debian: apt install python$version-venv) or, on a cluster, load another Python (module load python/$version)" >&2
    exit 1
fi

echo "setup: $kind environment with $("$python" --version) in .venv; fetches about $size"
rm -f "$stamp"
"$python" -m venv --clear "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
    --target "$venv/uv" -r "$here/envs/uv.lock.txt"
"$venv/uv/bin/uv" pip sync --quiet --python "$venv/bin/python" --require-hashes "$lock"
name_command
echo "$wanted" >"$stamp.partial"
mv "$stamp.partial" "$stamp"
echo "setup: done; activate it with: . .venv/bin/activate"
