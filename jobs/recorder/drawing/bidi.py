"""In which order the parts of a line stand (the Unicode Bidirectional Algorithm, UAX #9, for one short line).

Names have no embeddings: those marks are taken out before. Shaping within a part is the text engine's.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final, TypeVar

_Part = TypeVar("_Part")
_BRACKETS: Final = {"(": ")", "[": "]", "{": "}"}
_STRONG: Final = {"L": "L", "R": "R", "AL": "R"}


def levels(clusters: Sequence[str]) -> list[int]:
    """The embedding level of each cluster: odd ones read from right to left."""
    classes = [unicodedata.bidirectional(cluster[0]) for cluster in clusters]
    base = next((_STRONG[c] for c in classes if c in _STRONG), "L")
    kinds = _neutral(_brackets(_weak(classes, base), clusters, base), base)
    table = (
        {"L": 0, "R": 1, "EN": 2, "AN": 2} if base == "L" else {"L": 2, "R": 1, "EN": 2, "AN": 2}
    )
    return [table[kind] for kind in kinds]


def visual_order(parts: Sequence[_Part], part_levels: Sequence[int]) -> list[_Part]:
    """`parts` from left to right (UAX #9, L2)."""
    order = list(range(len(parts)))
    for level in range(max(part_levels, default=0), 0, -1):
        start = 0
        while start < len(order):
            if part_levels[order[start]] < level:
                start += 1
                continue
            end = start
            while end < len(order) and part_levels[order[end]] >= level:
                end += 1
            order[start:end] = reversed(order[start:end])
            start = end
    return [parts[index] for index in order]


def _weak(classes: Sequence[str], base: str) -> list[str]:
    """W2, W4, W7: numbers by what stands before them; everything else that is weak becomes neutral."""
    kinds, strong = [], base
    for index, kind in enumerate(classes):
        if kind in _STRONG:
            strong = _STRONG[kind]
            kinds.append(strong)
        elif kind == "EN":
            kinds.append("L" if strong == "L" else "EN")
        elif kind == "AN":
            kinds.append("AN")
        elif (
            kind in ("ES", "CS")
            and 0 < index < len(classes) - 1
            and classes[index - 1] == classes[index + 1] == "EN"
        ):
            kinds.append("L" if strong == "L" else "EN")
        else:
            kinds.append("N")
    return kinds


def _brackets(kinds: list[str], clusters: Sequence[str], base: str) -> list[str]:
    """N0: both brackets of a pair get the direction of what is in them, if it is the line's or that of
    what stands before them."""
    resolved, open_at = list(kinds), list[int]()
    pairs = []
    for index, cluster in enumerate(clusters):
        if cluster in _BRACKETS:
            open_at.append(index)
        elif open_at and cluster == _BRACKETS[clusters[open_at[-1]]]:
            pairs.append((open_at.pop(), index))
    for start, end in sorted(pairs):
        inside = {_side(kind) for kind in resolved[start + 1 : end] if kind != "N"}
        if not inside:
            continue
        before = next((_side(k) for k in reversed(resolved[:start]) if k != "N"), base)
        resolved[start] = resolved[end] = base if base in inside else before
    return resolved


def _neutral(kinds: list[str], base: str) -> list[str]:
    """N1, N2: between two of one direction that direction, else the line's."""
    resolved, start = list(kinds), 0
    while start < len(kinds):
        if kinds[start] != "N":
            start += 1
            continue
        end = start
        while end < len(kinds) and kinds[end] == "N":
            end += 1
        before = _side(kinds[start - 1]) if start else base
        after = _side(kinds[end]) if end < len(kinds) else base
        resolved[start:end] = [before if before == after else base] * (end - start)
        start = end
    return resolved


def _side(kind: str) -> str:
    return "L" if kind == "L" else "R"
