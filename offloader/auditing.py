"""The audit of a running service: opened as the settings say, its start recorded, written to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from foundation.clock import Clock
from foundation.layered_config import ConfigError
from foundation.logs import get_logger
from offloader.audit import Audit
from offloader.audit_file import AuditFile
from offloader.setting_audit import settings_digest
from offloader.settings import Settings
from offloader.version import BUILD_VERSION

log = get_logger()


@asynccontextmanager
async def auditing(settings: Settings, *, clock: Clock) -> AsyncIterator[Audit]:
    """While the block runs, what is noted is written.

    Raises:
        ConfigError: the file that somebody asked for cannot be written. The default one is tried again and
            again, and records that it could not take are counted.
    """
    wanted = settings.audit
    file = None
    if wanted.path is not None:
        file = AuditFile(wanted.path, max_bytes=wanted.max_bytes, retention=wanted.retention)
    audit = Audit(file, clock=clock)
    try:
        digest = settings_digest(settings)
        place = await audit.begin(version=BUILD_VERSION, configuration_sha256=digest)
    except OSError as error:
        text = f"audit.file: {wanted.path}: cannot be written: {error.strerror or error}"
        if wanted.wanted:
            raise ConfigError(text) from error
        log.warning("audit.file_unusable", reason=text)
    else:
        if place is not None:
            # In another file, perhaps on another host: whoever makes a new chain cannot change it here.
            log.info("audit.begun", seq=place.seq, sha256=place.digest)
    writing = asyncio.create_task(audit.run(), name="audit")
    try:
        yield audit
    finally:
        await audit.aclose(writing)
