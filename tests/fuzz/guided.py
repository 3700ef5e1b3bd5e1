"""`python -m tests.fuzz.guided TARGET FLAG…`: libFuzzer by way of atheris, guided by coverage.

A process of its own for `tests.fuzz.__main__`: libFuzzer ends it by itself, and modules must be new to it for
their coverage to be measured.
"""

from __future__ import annotations

import sys

import atheris

from tests.fuzz import target as targets

_MEASURED = ("foundation", "rtc", "callclient", "clientauth", "offloader", "jobs", "sfu")


def main() -> None:
    name = sys.argv[1]
    with atheris.instrument_imports(include=list(_MEASURED)):
        found = targets.load(name)
    targets.be_quiet()
    atheris.Setup([sys.argv[0], *sys.argv[2:]], lambda data: targets.judge(found, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
