#!/bin/sh
# In the build stage: /image/packages/app/venv with an image's packages, without what nothing runs, compiled, and with one
# time on everything: the same lock file makes the same layer.
#   packages.sh --extra NAME…
set -eu
here=$(dirname "$0")
sh "$here/install.sh" /app/venv "$@"
packages=$(/app/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# Not by PYTHONPATH: programs that a process starts with an environment of its own find the code, too.
echo /app >"$packages/app.pth"

# Before anything is left out.
/build/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
    --no-validate --spec-version 1.6 --output-format JSON --output-file /build/python.cdx.json /app/venv/bin/python

# Tests, sources of extensions, and the symbols of extensions, which are a third of what they weigh. Libraries that
# auditwheel has put beside them (*.libs) are left alone: it has moved parts of them about.
find "$packages" -depth -type d -name tests -exec rm -r {} +
find "$packages" -type f \( -name '*.a' -o -name '*.h' -o -name '*.hpp' -o -name '*.c' -o -name '*.cpp' -o -name '*.pyx' \
    -o -name '*.pxd' -o -name '*.pyi' \) -delete
# Where the wheels came from, and when; a lock file that everybody may write.
rm -f /app/venv/.lock
find "$packages" -name uv_cache.json -delete
sed -i '/uv_cache.json/d' "$packages"/*.dist-info/RECORD
find "$packages" -type f -name '*.so' ! -path '*.libs/*' -exec strip --strip-unneeded {} +
/app/venv/bin/python "$here/load_extensions.py" "$packages"

# By the content's hash, which is not looked at again: containers cannot write, and times differ from copy to copy.
# Not what is big and rarely or never run: it is compiled when it is loaded.
/app/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
    -x '/(kubernetes_asyncio|prompt_toolkit|wcwidth|testing|mssql|mysql|oracle|pydantic/v1|numpy/f2py)/' "$packages"
find /app -exec touch --no-dereference --date 2000-01-01T00:00Z {} +
mkdir -p /image/packages
mv /app /image/packages/app
