"""The rows of the vendor's published benchmark tables (rtcd.md 5.2), to be run whole or scaled down."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from sfu.loadtest.plan import LoadPlan, PlanError


@dataclass(frozen=True, slots=True)
class Preset:
    """One row: speech of 80 kb/s, screens of 1.6 Mb/s."""

    calls: int
    users_per_call: int
    unmuted: int
    sharing: bool
    """One user of every call shares a screen."""
    published: str
    """What the vendor measured with the original, for comparison by eye: other hardware, other unit."""

    @property
    def name(self) -> str:
        return f"{self.calls}x{self.users_per_call}" + (
            f"-u{self.unmuted}{'-screen' if self.sharing else ''}"
        )


_ROWS: Final = (
    # The older table; two users of each call speak.
    Preset(100, 8, 2, False, "60 % of c6i.xlarge, 30 % of 2xlarge; 22 in, 125 Mb/s out"),
    Preset(100, 8, 2, True, "86 % of c6i.2xlarge; 280 Mb/s in, 2.2 Gb/s out"),
    Preset(10, 50, 2, False, "35 % of c6i.xlarge, 16 % of 2xlarge; 5.25 in, 86 Mb/s out"),
    Preset(10, 50, 2, True, "90 % of c6i.xlarge, 45 % of 2xlarge; 32 Mb/s in, 1.33 Gb/s out"),
    Preset(5, 200, 2, False, "65 % of c6i.xlarge, 30 % of 2xlarge; 8.2 in, 180 Mb/s out"),
    Preset(5, 200, 2, True, "90 % of c6i.2xlarge; 31 Mb/s in, 2.2 Gb/s out"),
    # The current one.
    Preset(1, 1000, 2, False, "47 % of c7i.xlarge, 20 % of 2xlarge; 1 in, 194 Mb/s out"),
    Preset(1, 1000, 2, True, "49 % of c7i.2xlarge; 3.6 Mb/s in, 1.79 Gb/s out"),
    Preset(1, 800, 1, True, "64 % of c7i.xlarge; 2.7 Mb/s in, 1.36 Gb/s out"),
    Preset(1, 1000, 1, True, "79 % of c7i.xlarge; 2.9 Mb/s in, 1.68 Gb/s out"),
    Preset(2, 1000, 1, True, "73 % of c7i.2xlarge; 5.7 Mb/s in, 3.06 Gb/s out"),
    Preset(2, 1000, 2, True, "41 % of c7i.4xlarge; 7.23 Mb/s in, 3.60 Gb/s out"),
    Preset(3, 1000, 2, True, "63 % of c7i.4xlarge; 10.9 Mb/s in, 5.38 Gb/s out"),
    Preset(4, 1000, 2, True, "83 % of c7i.4xlarge; 14.5 Mb/s in, 7.17 Gb/s out"),
    Preset(10, 100, 1, True, "74 % of c7i.xlarge; 18.2 Mb/s in, 1.68 Gb/s out"),
    Preset(100, 10, 2, False, "49 % of c7i.xlarge; 18.7 in, 175 Mb/s out"),
    Preset(100, 10, 1, True, "84 % of c7i.xlarge; 171 Mb/s in, 1.53 Gb/s out"),
    Preset(100, 10, 2, True, "60 % of c7i.2xlarge; 181 Mb/s in, 1.62 Gb/s out"),
    Preset(150, 10, 1, True, "72 % of c7i.2xlarge; 257 Mb/s in, 2.30 Gb/s out"),
    Preset(150, 10, 2, True, "79 % of c7i.2xlarge; 271 Mb/s in, 2.41 Gb/s out"),
    Preset(250, 10, 2, False, "58 % of c7i.2xlarge; 47 in, 439 Mb/s out"),
    Preset(250, 10, 2, True, "79 % of c7i.4xlarge; 431 Mb/s in, 3.73 Gb/s out"),
    Preset(1000, 2, 2, False, "78 % of c7i.2xlarge; 178 in, 195 Mb/s out"),
    Preset(500, 2, 2, True, "71 % of c7i.4xlarge; 896 in, 919 Mb/s out"),
)
PRESETS: Final = {row.name: row for row in _ROWS}


def find_preset(name: str) -> Preset:
    """A row by its name; `-u2` may be left out: `100x8`, `100x8-screen`.

    Raises:
        PlanError: no such row.
    """
    calls_and_users, _, rest = name.partition("-")
    tried = name if rest.startswith("u") else f"{calls_and_users}-u2{'-' + rest if rest else ''}"
    try:
        return PRESETS[tried]
    except KeyError:
        raise PlanError(
            f"--preset {name!r}: should be one of {', '.join(sorted(PRESETS))} (-u2 may be left out)"
        ) from None


def apply_preset(plan: LoadPlan, preset: Preset, *, scale: float) -> LoadPlan:
    """The row as a plan. Calls become fewer first; below one call, the call becomes smaller.

    Raises:
        PlanError: the scale is not above 0 and at most 1.
    """
    if not 0 < scale <= 1:
        raise PlanError(f"--scale {scale:g}: should be above 0 and at most 1")
    wanted_calls = preset.calls * scale
    calls = max(1, round(wanted_calls))
    users = preset.users_per_call
    if wanted_calls < 1:
        users = max(2, preset.unmuted, round(users * wanted_calls))
    return replace(
        plan,
        calls=calls,
        users_per_call=users,
        unmuted=preset.unmuted,
        screen_sharing=calls if preset.sharing else 0,
    )
