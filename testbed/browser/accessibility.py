"""What axe-core finds wrong in a page for those who use a keyboard or a screen reader."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from testbed.browser.tab import Tab

_JUDGED: Final = ("serious", "critical")
_LIMIT_S: Final = 60.0
_RUN: Final = """async (judged) => {
    // A colour on its way to another one is nobody's to judge.
    for (const moving of document.getAnimations()) {
        if (moving.effect.getComputedTiming().endTime === Infinity) moving.cancel();
        else moving.finish();
    }
    const found = await axe.run(document, { resultTypes: ["violations"] });
    return found.violations.filter(({ impact }) => judged.includes(impact)).flatMap(({ id, nodes }) =>
        nodes.map(({ target, failureSummary }) => `${id} at ${target.join(" ")}: ${failureSummary}`));
}"""


async def violations(tab: Tab, axe: Path) -> list[str]:
    """The serious and critical violations in the page as it is now; `axe` is axe-core's script.

    Raises:
        TabError: the page cannot be judged.
    """
    if not await tab.run("() => Boolean(globalThis.axe)"):
        script = await asyncio.to_thread(axe.read_text, encoding="utf-8")
        await tab.run(f"() => {{ {script}; }}")
    found: list[str] = await tab.run(_RUN, list(_JUDGED), timeout_s=_LIMIT_S)
    return found
