"""`offloader notify test`: does a line reach the admins' channel?"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket

from offloader.cli import output
from offloader.cli.failures import CommandFailed
from offloader.notify.webhook import MattermostWebhook, NotSent
from offloader.settings import NotifySettings, load_settings


def test(arguments: argparse.Namespace) -> None:
    """Send one, as the service would, and only once.

    Raises:
        CommandFailed: there is no webhook, or the line did not arrive; the text says why, not where to.
    """
    settings = load_settings(arguments.config, os.environ).notify
    if not settings.webhook:
        raise CommandFailed("notify.mattermost_webhook is not set: nobody would be told")
    try:
        asyncio.run(_send(settings))
    except NotSent as error:
        raise CommandFailed(f"the line did not arrive: {error}") from error
    if arguments.json:
        output.print_json({"sent": True})
    else:
        print("sent: look into the channel")


async def _send(settings: NotifySettings) -> None:
    sender = MattermostWebhook(settings)
    try:
        where = socket.gethostname()
        await sender.send(f":bell: Calls job service `{where}`: this is a test; all is well.")
    finally:
        await sender.aclose()
