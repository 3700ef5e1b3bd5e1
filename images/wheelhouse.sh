#!/usr/bin/env bash
# Fills images/wheelhouse with every wheel that the images are made of, each held against its hash in uv.lock.
#   images/wheelhouse.sh ENVIRONMENT [DIRECTORY]    where uv and pip are; another place to fill
#   PLATFORM                                        linux/amd64 or linux/arm64; default: this machine's
# From then on images are built without network; remove the wheels to end that.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=$1/bin
house=${2:-images/wheelhouse}

machine=$(uname -m)
case "${PLATFORM:-}" in
"") ;;
linux/amd64) machine=x86_64 ;;
linux/arm64) machine=aarch64 ;;
*) echo "PLATFORM=$PLATFORM; it should be linux/amd64 or linux/arm64" >&2; exit 2 ;;
esac
mkdir -p "$house"
# Debian 12 has glibc 2.36 and Python 3.11.
target=(--python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none)
for minor in $(seq 36 -1 5); do target+=(--platform "manylinux_2_${minor}_$machine"); done
target+=(--platform "manylinux2014_$machine" --platform "manylinux2010_$machine" --platform "linux_$machine")

"$environment/uv" export --quiet --frozen --no-header --no-annotate --no-emit-project --all-extras --no-default-groups \
    --group images | "$environment/python" images/for_debian.py "$machine" >"$house/requirements.txt"
# What the lock file no longer names goes; what is there already is not fetched again.
rm -rf "$house/new" && mkdir "$house/new"
"$environment/pip" download --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-deps "${target[@]}" \
    --find-links "$house" --dest "$house/new" --requirement "$house/requirements.txt"
rm -f "$house"/*.whl
mv "$house/new"/*.whl "$house" && rmdir "$house/new"
echo "$(find "$house" -name '*.whl' | wc -l) wheels, $(du -sh "$house" | cut -f1) in $house"
