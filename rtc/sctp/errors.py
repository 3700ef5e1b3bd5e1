"""What ends an association from within."""

from __future__ import annotations


class ProtocolViolation(Exception):
    """The other side sent what SCTP does not allow; the association is aborted. Never leaves `receive`."""
