#!/usr/bin/env bash
# Puts speech models into an image that is on the engine already, one layer for each; nothing else in it changes.
#   images/add-models.sh IMAGE DIRECTORY MODEL…    DIRECTORY/MODEL is a CTranslate2 directory, as models/README.md says
# Environment: PLATFORM, SOURCE_DATE_EPOCH
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
image=$1
directory=$(realpath "$2")
shift 2
here=$(realpath "$(dirname "$0")")
platform=()
[ -z "${PLATFORM:-}" ] || platform=(--platform "$PLATFORM")

for model in "$@"; do
    [ -f "$directory/$model/model.bin" ] || { echo "$directory/$model/model.bin is missing; a model is a CTranslate2 directory" >&2; exit 2; }
done
have=$(docker image inspect --format '{{with .Config.Labels}}{{with index . "calls-native-offloader.models"}}{{.}}{{end}}{{end}}' "$image")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for model in "$@"; do
    have+="${have:+ }$model"
    rm -rf "$work/layer" && mkdir -p "$work/layer/models" && ln -s "$directory/$model" "$work/layer/models/$model"
    # The same files make the same layer, whoever they belong to here.
    tar -c --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-946684800}" --mode=u=rwX,go=rX --dereference \
        -C "$here" model.Dockerfile -C "$work" layer |
        docker build --quiet --network none "${platform[@]}" --build-arg "IMAGE=$image" \
            --label "calls-native-offloader.models=$have" --file model.Dockerfile --tag "$image" - >/dev/null
    echo "  $image has the model $model"
done
