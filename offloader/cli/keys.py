"""`offloader keys …`: change the secret keys while the service runs (docs/operations.md)."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, Final

from offloader.cli import output
from offloader.cli.failures import CommandFailed
from offloader.cli.requests import ServiceClient
from offloader.errors import StoreError
from offloader.settings import default_state_dir, load_settings
from offloader.store.key_place import VARIABLE, KeyPlace
from offloader.store.secret_key import MOST_KEYS, SecretKey, new_key
from offloader.store.sqlite_file import file_of, key_file_of

_EVERYWHERE: Final = "on every replica and every worker"


def list_keys(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """What the service has, and what is stored under it."""
    document = client.get("admin", "keys")
    if arguments.json:
        output.print_json(document)
        return
    _print(document)


def renew(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """Store everything under the newest key."""
    document = client.post("admin", "keys", "renew")
    if arguments.json:
        output.print_json(document)
        return
    _print(document)


def add(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """A new key in front of the others; the service takes it over by itself.

    Raises:
        CommandFailed: the keys are not in a file here, it cannot be changed, or it is full.
    """
    place = _place(arguments.config)
    keys = _read(place)
    served = [entry["id"] for entry in client.get("admin", "keys")["keys"]]
    if served != [SecretKey(key).id for key in keys]:
        raise CommandFailed(_not_the_services(place))
    if len(keys) >= MOST_KEYS:
        raise CommandFailed(
            f"{place.file}: it holds {len(keys)} keys: `offloader keys prune` takes out the older ones"
        )
    fresh = new_key()
    _write(place, (fresh, *keys))
    key_id = SecretKey(fresh).id
    if arguments.json:
        output.print_json({"id": key_id, "file": str(place.file)})
        return
    print(f"{place.file}: key {key_id} is the newest; the service takes it over within seconds")
    print(f"next: the same file {_EVERYWHERE}, then `offloader keys prune`")


def prune(client: ServiceClient, arguments: argparse.Namespace) -> None:
    """Store everything under the newest key, and take the others out of the file.

    Raises:
        CommandFailed: something is not stored under it, the keys are not in a file here, or it cannot be
            changed.
    """
    document = client.post("admin", "keys", "renew")
    newest, *older = document["keys"]
    if document["missing"] or any(entry["secrets"] for entry in older):
        raise CommandFailed(
            f"not everything is stored under key {newest['id']} yet: try again when it is the newest "
            f"{_EVERYWHERE}"
        )
    place = _place(arguments.config)
    keys = _read(place)
    if SecretKey(keys[0]).id != newest["id"]:
        raise CommandFailed(_not_the_services(place))
    _write(place, keys[:1])
    if arguments.json:
        output.print_json(document)
        return
    _print(document)
    print(f"{place.file}: key {newest['id']} alone is left")


def _print(document: dict[str, Any]) -> None:
    rows = [
        (entry["id"], entry["secrets"], _note(number, entry["secrets"]))
        for number, entry in enumerate(document["keys"])
    ]
    output.print_table(("key", "secrets", "note"), rows, empty="there is no key")
    if document["renewed"]:
        print(f"stored anew under the newest: {document['renewed']}")
    if document["unreadable"]:
        print(f"note: {document['unreadable']} secrets are of keys that are not here")
    if document["missing"]:
        print(
            f"note: key {document['missing']}, which other replicas write with, is missing here: "
            f"put it first {_EVERYWHERE}; if it is lost, `offloader keys renew` forgets it"
        )


def _note(number: int, secrets: int) -> str:
    if number == 0:
        return "the newest"
    return "needed" if secrets else f"not needed any more once the newest is {_EVERYWHERE}"


def _place(config: Path) -> KeyPlace:
    settings = load_settings(config, os.environ)
    source = settings.data_source
    beside = None if "://" in source else key_file_of(file_of(source))
    return KeyPlace(os.environ, beside or default_state_dir(os.environ) / "offloader.key")


def _read(place: KeyPlace) -> tuple[str, ...]:
    if place.in_environment:
        raise CommandFailed(
            f"the keys are in environment {VARIABLE}: change it where it is set, the newest key first, and "
            "start the service anew"
        )
    try:
        return place.read()
    except StoreError as error:
        raise CommandFailed(f"the key file cannot be used: {error}") from error


def _write(place: KeyPlace, keys: tuple[str, ...]) -> None:
    try:
        place.write(keys)
    except OSError as error:
        raise CommandFailed(f"{place.file}: cannot be written: {error.strerror}") from error


def _not_the_services(place: KeyPlace) -> str:
    return (
        f"{place.file}: it does not hold the keys that the service uses: it may have them from environment "
        f"{VARIABLE}, or has not taken this file over (offloader keys list)"
    )
