"""The steps between this host and Mattermost, in the order in which a connection needs them."""

from __future__ import annotations

from typing import Final

from offloader.doctor.network.addresses import DNS, TCP
from offloader.doctor.network.answers import CLOCK, HTTP
from offloader.doctor.network.certificate import TLS
from offloader.doctor.network.ice_servers import ICE_SERVERS
from offloader.doctor.network.job_service import JOB_SERVICE
from offloader.doctor.network.plugin import PLUGIN
from offloader.doctor.network.sfu import SFU
from offloader.doctor.network.upload import UPLOAD
from offloader.doctor.network.websocket import WEBSOCKET
from offloader.doctor.step import Step

NETWORK_STEPS: Final[tuple[Step, ...]] = (
    DNS,
    TCP,
    TLS,
    HTTP,
    CLOCK,
    WEBSOCKET,
    PLUGIN,
    JOB_SERVICE,
    UPLOAD,
    SFU,
    ICE_SERVERS,
)
