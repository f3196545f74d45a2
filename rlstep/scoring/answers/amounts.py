r"""Reading an answer as a value with its unit: `5\text{ cm}`, `50\%`, '€5', '18 million'."""

from __future__ import annotations

import re

from rlstep.scoring.answers.answer_text import MIXED, NUMBER, number
from rlstep.scoring.answers.notation import stripped, unwrapped
from rlstep.scoring.answers.units import Unit, read_unit, sum_of_units

_PERCENT = re.compile(r"\s*(?:\\?%|\b(?:percent|pct|percentage)\b)$")
_FRACTION = r"\\frac\s*\{[0-9]+\}\s*\{[0-9]+\}"
_VALUE = rf"(?:{MIXED}|{NUMBER}|[-+]?(?:[0-9]+\s*)?{_FRACTION})"
_WITH_UNIT = re.compile(rf"({_VALUE})(\s*)([a-zA-Z].*)")
_WRAPPED_UNIT = re.compile(
    r"(.*?[^\s\\~])(?:\s|~|\\ )*(\\(?:text(?:rm|bf|it)?|mathrm|mbox)\s*\{.*)"
)
_DEGREE = re.compile(
    r"(?:\s|~)*(?:\^\s*\{?\s*\\circ\s*\}?|\\degree)\s*(?:\\(?:text|mathrm)\{\s*([CF])\s*\}|([CF]))?$"
)
_SIGNS = {r"\euro": "euro", r"\pound": "sterling", r"\yen": "yen", r"\rupee": "rupee"}
_SIGN = re.compile(r"(\\(?:euro|pound|yen|rupee))(?![a-zA-Z])\s*(.*)")
_SIGN_BEHIND = re.compile(r"(.*[0-9}])\s*(\\(?:euro|pound|yen|rupee))")
_CODE = re.compile(rf"(USD?|EUR|GBP|INR|JPY|Rs)\.?\s*({NUMBER})")
_SCALE = re.compile(
    r"(.+?)\s*(?<![a-zA-Z])(dozen|hundred|thousand|million|billion|trillion)s?(?![a-zA-Z])(.*)"
)
_SCALES = {
    "dozen": 12,
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}


def amount(answer: str) -> tuple[str, Unit | str | None]:
    """(value, unit): a unit, '%', or None; a number word is part of the value."""
    if "%" in answer or "p" in answer:
        bare = _PERCENT.sub("", unwrapped(answer).rstrip() if "text" in answer else answer)
        if bare != (unwrapped(answer).rstrip() if "text" in answer else answer) and bare.strip():
            return stripped(bare.strip()), "%"
    if money := _money(answer):
        return money
    if degree := _DEGREE.search(answer):
        value = answer[: degree.start()].strip()
        if value and not re.search(r"(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])", value):
            return value, read_unit(degree[1] or degree[2] or "degree")
    match = _WRAPPED_UNIT.fullmatch(answer)
    wrapped = match and not match[1].endswith(("^", "_", "{", "="))
    if match and wrapped and (found := _scaled_unit(match[1], unwrapped(match[2]))):
        return found
    if match := _WITH_UNIT.fullmatch(" ".join(unwrapped(answer).replace("~", " ").split())):
        spaced = bool(match[2])
        if (spaced or re.match(r"[a-zA-Z]{2}", match[3])) and (
            found := _scaled_unit(match[1], match[3])
        ):
            return found
    return sum_of_units(unwrapped(answer)) or (answer, None)


def _money(answer: str) -> tuple[str, Unit | None] | None:
    """'€5', '5€' and 'USD 5'."""
    if sign := _SIGN.fullmatch(answer):
        return sign[2], read_unit(_SIGNS[sign[1]])
    if sign := _SIGN_BEHIND.fullmatch(answer):
        return sign[1], read_unit(_SIGNS[sign[2]])
    if (code := _CODE.fullmatch(" ".join(unwrapped(answer).split()))) and code[2]:
        return code[2], read_unit("USD" if code[1] == "US" else code[1])
    return None


def _scaled_unit(value: str, unit: str) -> tuple[str, Unit | None] | None:
    unit = " ".join(unit.replace("\\ ", " ").split())
    scale = _SCALE.fullmatch("1 " + unit)
    if scale and scale[1] == "1":
        value = f"({value}) \\cdot {_SCALES[scale[2]]}"
        exact = number(value.split(")")[0][1:])
        value = str(exact * _SCALES[scale[2]]) if exact is not None else value
        unit = scale[3].strip()
        if not unit or unit.startswith("of "):
            return value, None
    found = read_unit(unit)
    return (value, found) if found else None
