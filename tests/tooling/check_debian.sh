#!/usr/bin/env bash
# Run the demo and the service's tests with another Debian's Python, in a folder. `make debian-check`,
# as root; `make debian-check SUITE=sid` takes the newest Python, ARGS='tests/integration -k lock' chooses
# tests.
#
# Everything lies in build/debian-SUITE. Mounts are made in this script's own mount namespace, so that
# none is left however it ends: /dev of this machine must not stand below a folder that is removed.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo 'debian-check needs root' >&2; exit 1; }
if [ "${1:-}" != in-namespace ]; then exec unshare --mount "$0" in-namespace "$@"; fi
suite=$2
tests=("${@:3}")
cd "$(dirname "$0")/../.."
root=$PWD/build/debian-$suite
mkdir -p build

if [ ! -e "$root/made" ]; then
    rm -rf "$root"
    mmdebstrap --variant=minbase \
        --include=ca-certificates,make,python3-venv,redis-server "$suite" "$root"
    touch "$root/made"
fi

# The virtual environment stays from one run to the next, the source does not.
mkdir -p "$root/src"
find "$root/src" -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +
git ls-files | tar -cf - -T - | tar -xf - -C "$root/src"

# What this machine fetches packages through, and trusts, is what the folder gets.
cp /etc/resolv.conf /etc/hosts "$root/etc/"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
if [ -e /etc/pip.conf ]; then cp /etc/pip.conf "$root/etc/"; fi
mapfile -t environment < <(env | grep -iE '^(pip_|ssl_cert_file=|[a-z]*_proxy=)' | grep -v '^PIP_FIND_LINKS=/')

mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot "$root" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    "${environment[@]}" sh -euc '
cd /src
make demo
.venv/bin/python -m pip install --quiet -c constraints.txt -e ".[evaluation,tracing,vault]" \
    hypothesis onnx pytest pytest-asyncio pytest-xdist pyyaml
exec .venv/bin/python -m pytest -q -p no:cacheprovider "$@"' sh "${tests[@]}"
