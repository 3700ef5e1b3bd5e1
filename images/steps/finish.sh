#!/bin/sh
# In the build stage, when our code lies in /image/code/app: says of which release it is, writes the bill of materials and
# the notices beside it, compiles it for its place, /app, and gives everything the release's time.
#   finish.sh NAME   with VERSION, REVISION and SOURCE_DATE_EPOCH in the environment
set -eu
here=$(dirname "$0")
app=/image/code/app
/build/tools/bin/python "$here/inventory.py" "$1"
# The code is copied, not installed; programs ask for the version of the distribution nevertheless.
python3 "$here/metadata.py" "$app" <pyproject.toml
if [ -f "$app/offloader/version.py" ]; then
    date=$(date --utc --date "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
    sed -i "s/^BUILD_DATE = .*/BUILD_DATE = \"$date\"/; s/^BUILD_HASH = .*/BUILD_HASH = \"$REVISION\"/" "$app/offloader/version.py"
fi
/image/packages/app/venv/bin/python -m compileall -q -s /image/code -p / --invalidation-mode unchecked-hash "$app"
find /image/code -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
