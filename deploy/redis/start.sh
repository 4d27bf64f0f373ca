#!/bin/sh
# Starts Redis with the users of users.acl. The password is read from a file; only its SHA-256 is
# written, to a temporary folder, and it shows in no list of processes.
#   PASSWORD_FILE=/run/secrets/redis_password start.sh [option of redis-server ...]
set -eu
umask 077
here=$(dirname "$0")
password=$(cat "${PASSWORD_FILE:-/run/secrets/redis_password}")
if [ "${#password}" -lt 32 ]; then
    echo 'start.sh: the password has fewer than 32 characters: openssl rand -hex 32' >&2
    exit 1
fi
digest=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)
unset password
users=$(mktemp)
sed "s/PASSWORD_SHA256/$digest/" "$here/users.acl" > "$users"
exec redis-server "$here/redis.conf" --aclfile "$users" "$@"
