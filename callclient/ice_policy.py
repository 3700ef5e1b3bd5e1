"""Which ways media may take. A module of its own: settings are read before anything heavy is imported."""

from typing import Literal

IceTransportPolicy = Literal["all", "relay", "tcp"]
"""`all`: UDP, then TCP, then TURN. `relay`: TURN only. `tcp`: ICE-TCP to the SFU only."""
