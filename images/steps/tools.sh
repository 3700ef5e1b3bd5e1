#!/bin/sh
# In the build stage: uv and what makes bills of materials, exactly as uv.lock names them, into /build/tools.
# With wheels in /build/wheelhouse nothing else is asked.
set -eu
here=$(dirname "$0")
# Trusted while building, and in no image.
for file in /build/ca/*.pem; do [ ! -f "$file" ] || cat "$file" >>/etc/ssl/certs/ca-certificates.crt; done

python3 -m venv /build/tools
python3 "$here/pinned.py" uv <uv.lock >/build/uv.txt
offline=$(sh "$here/offline.sh")
# shellcheck disable=SC2086 # several words are meant
/build/tools/bin/pip install --quiet --require-hashes $offline --requirement /build/uv.txt
sh "$here/install.sh" /build/tools --only-group images
