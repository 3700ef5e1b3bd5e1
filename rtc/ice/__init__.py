"""Interactive Connectivity Establishment without I/O: see `rtc.ice.agent`.

Timers, sockets and TCP flows belong to the owner of an agent. One socket and one ticker may serve thousands.
"""

from rtc.ice.agent import IceAgent
from rtc.ice.bounds import IceBounds
from rtc.ice.candidate import Candidate, CandidateError, host_candidate
from rtc.ice.credentials import IceCredentials
from rtc.ice.events import (
    ConnectTcp,
    Disconnected,
    Failed,
    IceEvent,
    PathReleased,
    PathValidated,
    Recovered,
    Selected,
)
from rtc.ice.pair import PairReport, PairState
from rtc.ice.path import Address, Path
from rtc.ice.timings import FAR_FUTURE_NS, IceTimings

__all__ = [
    "FAR_FUTURE_NS",
    "Address",
    "Candidate",
    "CandidateError",
    "ConnectTcp",
    "Disconnected",
    "Failed",
    "IceAgent",
    "IceBounds",
    "IceCredentials",
    "IceEvent",
    "IceTimings",
    "PairReport",
    "PairState",
    "Path",
    "PathReleased",
    "PathValidated",
    "Recovered",
    "Selected",
    "host_candidate",
]
