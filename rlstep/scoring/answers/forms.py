r"""Numbers that algebra would misread: times ('3:30 PM'), ratios ('3 to 4'), bases (`101_2`)."""

from __future__ import annotations

import re

_CLOCK = re.compile(
    r"([01]?[0-9]|2[0-4])(?::([0-5][0-9]))?(?::([0-5][0-9]))?\s*(?:([aApP])\s?[mM])?"
)
_HALF = re.compile(r"(?<=[0-9])((?:\s|~)*(?:\\(?:text|mathrm)\{\s*)?)([aApP])\.\s?[mM]\.?")
_RATIO = re.compile(r"[0-9.]*[0-9](?: to [0-9.]*[0-9])+")
_BASES = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
).split()
_BASE = re.compile(
    r"\(?([0-9][0-9a-fA-F]*)\)?(?:\s*_\s*\{?\s*|\s+(?=base\b))(?:base\s*)?"
    rf"([0-9]+|{'|'.join(_BASES)})\s*\}}?"
)


def halved(answer: str) -> str:
    """With 'PM' for 'p.m.' behind a number."""
    return (
        _HALF.sub(lambda half: f"{half[1]}{half[2].upper()}M", answer) if "." in answer else answer
    )


def ratio(answer: str) -> str | None:
    """'3:4' of '3 to 4'; None of what is no ratio in words."""
    return answer.replace(" to ", ":") if _RATIO.fullmatch(answer) else None


def equal_clocks(one: str, other: str) -> bool | None:
    """Whether two times of day are one; None where they are none.

    '15:30' is '3:30 PM'; a time that names no half of the day is that time in either. With a half
    it is a time and nothing else; '3:10' may also be a ratio, and is one beside what is no time.
    """
    first, second = (_CLOCK.fullmatch(answer) for answer in (one, other))
    halves = [bool(clock and clock[4]) for clock in (first, second)]
    if not first or not second:
        return False if any(halves) else None
    if not all(clock[2] or clock[4] for clock in (first, second)):
        return None
    if [int(first[place] or 0) for place in (2, 3)] != [
        int(second[place] or 0) for place in (2, 3)
    ]:
        return False
    hours = [_hour(clock) for clock in (first, second)]
    return hours[0] == hours[1] or (
        halves[0] != halves[1]
        and hours[0] % 12 == hours[1] % 12
        and max(int(first[1]), int(second[1])) <= 12
    )


def _hour(clock: re.Match[str]) -> int:
    hour = int(clock[1])
    return hour % 12 + 12 * (clock[4] in ("p", "P")) if clock[4] else hour


def in_base(answer: str) -> tuple[str, int] | None:
    """(digits, base) of `101_2`, `(101)_{\\text{two}}` or '101 base 2'; None of what is none."""
    match = _BASE.fullmatch(answer)
    if not match:
        return None
    base = {word: number for number, word in enumerate(_BASES, 2)}.get(match[2]) or int(match[2])
    return match[1].upper(), base
