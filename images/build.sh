#!/usr/bin/env bash
# Builds the images of this release on the Docker Engine of this machine (or of DOCKER_HOST).
#   BASE      image to start from; `debootstrap` makes one from Debian's own packages (root, debootstrap)
#   BUILD_CA  PEM file that is trusted while building, and in no image; default: what this machine trusts
set -euo pipefail
cd "$(dirname "$0")/.."

base=${BASE:-debian:bookworm-slim}
ca=${BUILD_CA:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}
version=$(sed -n 's/^BUILD_VERSION = "\(.*\)"$/\1/p' offloader/version.py)

if [ "$base" = debootstrap ]; then
    base=calls-native-offloader/base:bookworm
    if ! docker image inspect "$base" >/dev/null 2>&1; then
        echo "making $base by debootstrap"
        root=$(mktemp -d)
        trap 'rm -rf --one-file-system "$root"' EXIT
        debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$root" >"$root.log" 2>&1 ||
            { tail -n 20 "$root.log" >&2; exit 1; }
        tar -C "$root" --exclude='./proc/*' --exclude='./sys/*' --exclude='./dev/*' \
            --exclude='./var/cache/apt/*' -c . | docker import - "$base" >/dev/null
        rm -f "$root.log"
    fi
fi

[ ! -f "$ca" ] || cp -L "$ca" images/ca/build.pem
for name in recorder transcriber offloader; do
    image=calls-native-offloader/calls-$name:$version
    echo "building $image"
    # The classic builder and BuildKit both do; the host's network reaches what this machine reaches.
    docker build --quiet --network host --build-arg "BASE=$base" --file "images/$name.Dockerfile" --tag "$image" .
done
