"""One row of a data set, with an address for every complaint."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from difflib import get_close_matches
from hashlib import blake2b
from typing import Any

_UNSEEN = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"))
"""Zero-width space, word joiner and byte order mark."""


class Written(float):
    """A number of more digits than a float keeps, with all of them."""

    def __init__(self, literal: str) -> None:
        self.literal = literal


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row and where it stands."""

    values: Mapping[str, Any]
    source: str
    """File, or dataset id and split."""
    line: int
    """From 1."""
    unit: str = "line"
    """What is counted: lines, or in a .json or .parquet file rows."""

    @property
    def place(self) -> str:
        return f"{self.source}, {self.unit} {self.line}"

    def error(self, column: str, problem: str) -> ValueError:
        """What is wrong, with its address, ready to be raised."""
        return ValueError(f"{self.place}, field {column!r}: {problem}")

    def value(self, column: str) -> Any:
        """A column's value, or what stands inside one: 'reward_model.ground_truth', 'answers.0'.

        A column of exactly that name goes first. What stands inside a null is null.

        Raises:
            ValueError: the row has no such column, or nothing of that name is inside it.
        """
        found: Any = self.values
        if column in found:
            return found[column]
        for number, name in enumerate(parts := column.split(".")):
            if isinstance(found, Mapping) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            elif number and found is None:
                return None
            elif not number:
                near = get_close_matches(column, found, 1)
                hint = f"; the nearest is {near[0]!r}" if near else ""
                raise self.error(column, f"missing; the row has {sorted(found)}{hint}")
            else:
                inside = sorted(found) if isinstance(found, Mapping) else shown(found)
                raise self.error(column, f"missing; {'.'.join(parts[:number])!r} is {inside}")
        return found

    def text(self, column: str, *, may_be_empty: bool = False) -> str:
        """A string. Raises ValueError where it is none, is blank, or is no valid Unicode."""
        return self.checked(column, self.value(column), may_be_empty=may_be_empty)

    def checked(self, column: str, value: Any, *, may_be_empty: bool = False) -> str:
        """The value of (or inside) a column, if it is a string to work with; see `text`."""
        if not isinstance(value, str):
            raise self.error(column, f"{shown(value)} is no string")
        if not may_be_empty and not value.strip():
            raise self.error(column, "empty")
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise self.error(column, "holds half a character (a lone surrogate)")
        return value

    def number_or_text(self, column: str) -> str:
        """A string, or a finite number in decimal notation with all digits that it was given."""
        value = self.value(column)
        number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
        if number and math.isfinite(value):
            return format(Decimal(getattr(value, "literal", None) or str(value)), "f")
        return self.text(column).strip()


def as_json(value: Any) -> Any:
    """The same value, with ISO 8601 for dates and times, and decimals and durations as text."""
    if isinstance(value, Mapping):
        return {name: as_json(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [as_json(entry) for entry in value]
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal | timedelta) else value


def problem_id(*texts: str) -> str:
    """A hash of the texts as a reader sees them.

    Neither the amount nor the kind of white space counts, nor which of Unicode's two ways an
    accent is written in. Case does, and so do forms such as x² and x2: they are other problems.
    """
    return digest("\0".join(" ".join(_composed(text).split()) for text in texts))


def digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()


def shown(value: Any) -> str:
    """A value for people, short."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text.translate(_UNSEEN))
