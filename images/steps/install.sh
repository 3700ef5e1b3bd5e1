#!/bin/sh
# In the build stage: packages of uv.lock into an environment, by hash, wheels only.
#   install.sh ENVIRONMENT (--extra NAME | --only-group NAME)…
set -eu
environment=$1
shift
uv=/build/tools/bin/uv
[ -x "$environment/bin/python" ] || "$uv" venv --quiet --no-config --python /usr/bin/python3 "$environment"
"$uv" export --quiet --frozen --no-dev --no-emit-project "$@" --output-file /build/packages.txt >/dev/null
offline=$(sh "$(dirname "$0")/offline.sh")
# shellcheck disable=SC2086 # several words are meant
"$uv" pip install --quiet --python "$environment/bin/python" --require-hashes --only-binary :all: \
    $offline --requirement /build/packages.txt || {
    [ -z "$offline" ] || echo "if images/wheelhouse is older than uv.lock: make wheelhouse" >&2
    exit 1
}
