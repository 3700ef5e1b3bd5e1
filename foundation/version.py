"""What release this is."""

from __future__ import annotations

from importlib.metadata import version

_DISTRIBUTION = "calls-native-offloader"


def build_version() -> str:
    """The release as the plugin's semver check wants it, such as `v1.2.0` (rtcd.md 4.4)."""
    return "v" + version(_DISTRIBUTION).partition(".dev")[0]
