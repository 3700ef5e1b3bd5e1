"""What `GET /config` tells clients (section 5.7); tests change some of it while the stand-in runs."""

from __future__ import annotations

from typing import Any

from sfu.ice_settings import IceServer
from sfu.turn import turn_servers

_TURN_MINUTES = 1440
"""The plugin's TURNCredentialsExpirationMinutes by default."""
_DEFAULTS: dict[str, Any] = {
    "AllowEnableCalls": True,
    "DefaultEnabled": True,
    "ICEServers": [],
    "ICEServersConfigs": [],
    "MaxCallParticipants": 0,
    "NeedsTURNCredentials": False,
    "AllowScreenSharing": True,
    "EnableRecordings": True,
    "EnableTranscriptions": True,
    "EnableLiveCaptions": True,
    "MaxRecordingDuration": 60,
    "EnableSimulcast": False,
    "EnableRinging": False,
    "sku_short_name": "enterprise",
    "HostControlsAllowed": True,
    "EnableAV1": False,
    "GroupCallsAllowed": True,
    "EnableDCSignaling": False,
    "EnableVideo": False,
}


class ClientConfig:
    """The settings by their names on the wire."""

    def __init__(self) -> None:
        self._values = dict(_DEFAULTS)
        self._ice_servers: list[IceServer] = []
        self._turn_secret = ""

    def public(self) -> dict[str, Any]:
        """The answer's object. TURN servers without credentials are not shown (section 4.11)."""
        shown = [_to_json(s) for s in self._ice_servers if not _needs_credentials(s)]
        needs = bool(self._turn_secret) and any(map(_needs_credentials, self._ice_servers))
        return self._values | {"ICEServersConfigs": shown, "NeedsTURNCredentials": needs}

    def turn_credentials(self, username: str, *, now_s: float) -> list[dict[str, Any]] | None:
        """What `GET /turn-credentials` answers; None without a secret."""
        if not self._turn_secret:
            return None
        return [
            _to_json(server)
            for server in turn_servers(
                [server for server in self._ice_servers if _needs_credentials(server)],
                secret=self._turn_secret,
                expiration_minutes=_TURN_MINUTES,
                session_id=username,
                now_s=now_s,
            )
        ]

    def set(self, values: dict[str, Any]) -> None:
        """Change some switches; ICEServersConfigs and TURNStaticAuthSecret too, which come together.

        Raises ValueError naming an unknown or wrongly typed one.
        """
        values = dict(values)
        if "ICEServersConfigs" in values:
            self._ice_servers = [_from_json(entry) for entry in values.pop("ICEServersConfigs")]
            self._turn_secret = str(values.pop("TURNStaticAuthSecret", ""))
        switches = [name for name, value in self._values.items() if isinstance(value, bool)]
        for name, value in values.items():
            if name not in switches:
                raise ValueError(f"config {name!r} is not one of {', '.join(switches)}")
            if not isinstance(value, bool):
                raise ValueError(f"config {name} = {value!r}: should be true or false")
            self._values[name] = value


def _needs_credentials(server: IceServer) -> bool:
    return server.is_turn and not (server.username and server.credential)


def _from_json(entry: Any) -> IceServer:
    try:
        urls = [str(url) for url in entry["urls"]]
        return IceServer(
            tuple(urls), str(entry.get("username", "")), str(entry.get("credential", ""))
        )
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"ICEServersConfigs: {entry!r} has no list of urls") from None


def _to_json(server: IceServer) -> dict[str, Any]:
    value: dict[str, Any] = {"urls": list(server.urls)}
    if server.username:
        value |= {"username": server.username, "credential": server.credential}
    return value
