#!/bin/sh
# Prints the options by which pip and uv take packages from the wheelhouse alone, if there is one.
if ls /build/wheelhouse/*.whl >/dev/null 2>&1; then echo "--no-index --find-links /build/wheelhouse"; fi
