#!/usr/bin/env bash
# Builds the images of this release on the Docker Engine of this machine (or of DOCKER_HOST); docs/images.md.
#   images/build.sh [NAME…]    these; without names all of them
#   images/build.sh --list     prints what all of them are called, and builds nothing
# Environment:
#   BASE_IMAGE, BASE   image to start from (debian:bookworm-slim); `debootstrap` makes one from Debian's own packages
#   BUILD_IMAGE        image to build in: the same Debian with binutils; default: BASE_IMAGE, which gets them by apt
#   MODELS             speech models to put into transcriber and worker, a layer each: "tiny base"; default: all in MODELS_DIR
#   MODELS_DIR         where they are, a directory each (images/models); see add-models.sh
#   PLATFORM           linux/amd64 or linux/arm64; default: the engine's
#   BUILD_CA           PEM file that is trusted while building, and in no image; default: what this machine trusts
#   TAG                what the images are tagged with; default: the version
#   NO_CACHE           anything: build every step anew, as on another engine
#   NETWORK            network of the build; default: `none` with a wheelhouse (make wheelhouse), else `host`
#   REVISION, SOURCE_DATE_EPOCH, SOURCE   commit, its time, where the sources are; default: what git knows
set -euo pipefail
cd "$(dirname "$0")/.."

all=(recorder transcriber offloader worker sfu testbed)
with_models=" transcriber worker "
version=$(sed -n 's/^BUILD_VERSION = "\(.*\)"$/\1/p' offloader/version.py)
tag=${TAG:-$version}
reference() { echo "calls-native-offloader/calls-$1:$tag"; }

if [ "${1:-}" = --list ]; then
    for name in "${all[@]}"; do reference "$name"; done
    exit
fi
names=("${@:-${all[@]}}")
for name in "${names[@]}"; do
    [[ " ${all[*]} " = *" $name "* ]] || { echo "no image $name; there are: ${all[*]}" >&2; exit 2; }
done

platform=()
[ -z "${PLATFORM:-}" ] || platform=(--platform "$PLATFORM")
base=${BASE_IMAGE:-${BASE:-debian:bookworm-slim}}
build_base=${BUILD_IMAGE:-$base}
if [ "$base" = debootstrap ]; then
    [ -z "${PLATFORM:-}" ] || export ARCH=${PLATFORM#linux/}
    bases=$(images/base.sh)
    read -r base build_base <<<"$bases"
fi

if compgen -G "images/wheelhouse/*.whl" >/dev/null; then
    network=${NETWORK:-none}
    echo "packages come from images/wheelhouse alone"
else
    network=${NETWORK:-host}  # what this machine reaches, the build reaches
fi
ca=${BUILD_CA:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}
[ ! -f "$ca" ] || cp -L "$ca" images/ca/build.pem
trap 'rm -f images/ca/build.pem' EXIT

revision=${REVISION:-$(GIT_OPTIONAL_LOCKS=0 git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown)}
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
labels=()
[ -z "${SOURCE:-}" ] || labels=(--label "org.opencontainers.image.source=$SOURCE")
anew=()
[ -z "${NO_CACHE:-}" ] || anew=(--no-cache)

models_dir=${MODELS_DIR:-images/models}
models=()
if [ -n "${MODELS+set}" ] && [ -n "$MODELS" ]; then
    read -ra models <<<"$MODELS"
else
    for file in "$models_dir"/*/model.bin; do
        [ ! -f "$file" ] || models+=("$(basename "$(dirname "$file")")")
    done
fi
for model in "${models[@]}"; do
    [ -f "$models_dir/$model/model.bin" ] || { echo "MODELS: $models_dir/$model/model.bin is missing; a model is a CTranslate2 directory" >&2; exit 2; }
done

mkdir -p dist/images
build() {
    local name=$1 image container
    image=$(reference "$name")
    # The classic builder and BuildKit both do. Quietly: what it prints belongs to a build that failed.
    docker build --quiet --network "$network" "${anew[@]}" "${platform[@]}" "${labels[@]}" --build-arg "BASE_IMAGE=$base" \
        --build-arg "BUILD_IMAGE=$build_base" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
        --build-arg "SOURCE_DATE_EPOCH=$epoch" --build-arg "CREATED=$(date --utc --date "@$epoch" +%Y-%m-%dT%H:%M:%SZ)" \
        --file "images/$name.Dockerfile" --tag "$image" . >"dist/images/$name.log" 2>&1 ||
        { cat "dist/images/$name.log" >&2; echo "$image could not be built" >&2; return 1; }
    [[ "$with_models" != *" $name "* || ${#models[@]} = 0 ]] || images/add-models.sh "$image" "$models_dir" "${models[@]}"
    container=$(docker create "${platform[@]}" "$image")
    docker cp "$container:/app/sbom.cdx.json" "dist/images/calls-$name-$tag.cdx.json" >/dev/null 2>&1
    docker rm "$container" >/dev/null
    rm -f "dist/images/$name.log"
    docker image inspect --format "$image: {{.Size}} bytes" "$image"
}

# The first one alone: it makes what all of them have in common. The others two at a time.
build "${names[0]}"
for name in "${names[@]:1}"; do
    [ "$(jobs -rp | wc -l)" -lt 2 ] || wait -n
    build "$name" &
done
while [ -n "$(jobs -p)" ]; do wait -n; done
