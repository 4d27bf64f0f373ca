#!/usr/bin/env bash
# Build the Dockerfile and run the image with buildah, without a container engine or a registry: the
# base image is made of Debian's packages, and each step runs in a chroot. `make image-check`, as root;
# the first argument is a target of the Dockerfile, cpu or campplus.
#
# Everything lies in build/image. Mounts are made in this script's own mount namespace, so that none
# is left however it ends; the machine's packages come with it for the build and are not in the image.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo 'image-check needs root' >&2; exit 1; }
target=${1:-cpu}
if [ "${2:-}" != in-namespace ]; then exec unshare --mount "$0" "$target" in-namespace; fi
cd "$(dirname "$0")/../.."
folder=$PWD/build/image
base=$(sed -n 's/^ARG PYTHON=//p' Dockerfile)
suite=${base##*-}
export TMPDIR=$folder/tmp
mkdir -p "$TMPDIR"

buildah() { command buildah --root "$folder/storage" --runroot "$folder/run" "$@"; }
inspect() { buildah inspect --format "$1" "$container"; }
size() { buildah images --format '{{.Size}}' "$1"; }

if [ ! -e "$folder/base.tar" ]; then
    mmdebstrap --variant=minbase \
        --include=python3,python3-venv,python3-pip,python-is-python3,ca-certificates \
        "$suite" "$folder/unfinished.tar"
    mv "$folder/unfinished.tar" "$folder/base.tar"
fi
if ! buildah inspect --type image "$base" > /dev/null 2>&1; then
    empty=$(buildah from scratch)
    buildah add --quiet "$empty" "$folder/base.tar" /
    buildah commit --quiet --rm "$empty" "$base"
fi

# Where pip finds packages on this machine, from its files and its environment (which comes first).
{
    echo '[global]'
    python3 -m pip config list | sed -En "s/^(:env:\.|global\.)([a-z-]+)='(.*)'$/\2 = \3/p" \
        | grep -v '^find-links = /' | awk '!seen[$1]++'
} > "$folder/pip.conf"
certificates=/etc/ssl/certs/ca-certificates.crt
buildah build --quiet --isolation chroot --pull-never --layers --format docker --tag "sayso:$target" \
    --target "$target" --volume "$folder/pip.conf:/etc/pip.conf:ro" --volume "$certificates:$certificates:ro" .

container=$(buildah from --pull-never "sayso:$target")
trap 'rm -rf "$folder/volume" "$folder/empty"; buildah rm "$container" > /dev/null' EXIT
root=$(buildah mount "$container")
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=0755 tmpfs "$root/run"  # buildah makes a mount point there

# The image's own folder, before a run leaves a mount on it.
rm -rf "$folder/empty"
cp -a "$root/var/lib/sayso" "$folder/empty"

# check NAME USER: serve on a read-only root as that user, enroll, and verify two callers.
check() {
    rm -rf "$folder/volume"
    cp -a "$folder/empty" "$folder/volume"
    port=$((20000 + RANDOM % 20000))
    buildah run --isolation chroot --user "$2" \
        --volume "$folder/volume:/var/lib/sayso" --volume "$PWD/demo/audio:/mnt:ro" \
        --env COLUMNS=120 --env SAYSO_LISTEN=127.0.0.1:$port --env SAYSO_SERVER=127.0.0.1:$port \
        "$container" -- sh -euc "$in_image" sh
    echo "image-check: $1 (user $2): serves, enrolls and verifies"
}
in_image='
id
touch /var/tmp/written 2>/dev/null && { echo "the root is not read-only" >&2; exit 1; }
sayso serve &
server=$!
trap "kill $server" EXIT
for second in $(seq 60); do sayso health && break; sleep 1; done
case "${SAYSO_MODEL:-}" in *campplus*) model=campplus ;; *) model=sayso ;; esac
sayso info --server "$SAYSO_SERVER" | grep " $model-"
sayso enroll slt /mnt/slt/enroll-*
sayso verify slt /mnt/slt/verify-1.*
sayso verify slt /mnt/rms/verify-1.* && { echo "another voice was accepted" >&2; exit 1; }
kill $server
wait $server
trap - EXIT
'
commands=$(inspect '{{.OCIv1.Config.Entrypoint}} {{.OCIv1.Config.Cmd}} {{.Docker.Config.Healthcheck.Test}}')
[ "$commands" = '[sayso] [serve] [CMD sayso health]' ] || { echo "unexpected commands: $commands" >&2; exit 1; }
[ ! -s "$root/etc/pip.conf" ] || { echo 'this machine is written into the image' >&2; exit 1; }
check "the image's own user" "$(inspect '{{.OCIv1.Config.User}}')"
check 'any user in group 0' 1000650000:0
echo "image-check: sayso:$target is $(size "sayso:$target"), of which the base is $(size "$base")"
