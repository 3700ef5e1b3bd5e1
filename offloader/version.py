"""What `GET /version` tells.

The plugin compares `buildVersion` with its own minimum by semver (job-service.md 1), so it is a release
version of this product, never below v1.0.0.
"""

from __future__ import annotations

import platform

BUILD_VERSION = "v1.0.0"
BUILD_DATE = "unknown"
BUILD_HASH = "unknown"


def version_document() -> dict[str, str]:
    """The four keys the plugin and the Go client read; `goVersion` names the Python version."""
    return {
        "buildDate": BUILD_DATE,
        "buildVersion": BUILD_VERSION,
        "buildHash": BUILD_HASH,
        "goVersion": f"python{platform.python_version()}",
    }
