"""Data channels over SCTP (RFC 8831), made for a server of many: sans-IO below `rtc.sctp.transport`."""

from rtc.sctp.channels import DataChannel
from rtc.sctp.timings import MAX_MESSAGE_BYTES
from rtc.sctp.transport import SCTP_PORT, SctpTransport

__all__ = ["MAX_MESSAGE_BYTES", "SCTP_PORT", "DataChannel", "SctpTransport"]
