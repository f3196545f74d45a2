"""Reading an answer as text and as a plain number: what both verifiers do before any algebra."""

from __future__ import annotations

import re
from fractions import Fraction

NUMBER = r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)?(?:\.[0-9]+|(?<=[0-9])/[0-9]+)?"
"""An optional sign, digits (thousands may be set off by commas), then decimals or a denominator."""

_LONGEST_NUMBER = 100
_DROPPED = re.compile(r"(?<!\\)(?:\\[!,;:()\[\]]|\\(?:left|right)(?![a-zA-Z]))|\\?\$")
_FRACTION = re.compile(r"\\[dt]frac(?![a-zA-Z])")

_TEXT = re.compile(r"\\(?:text(?:bf|it|rm)?|mathrm|mbox)\{([^{}]*)\}")


def plain(answer: str) -> str:
    r"""An answer without what changes its look only.

    Dropped are dollar signs (mathematics or money), `\left` and `\right`, thin spaces, `\( \)` and
    `\[ \]`, Markdown emphasis at the ends, a leading '=' and closing punctuation; white space
    becomes one space.
    """
    answer = _DROPPED.sub("", answer).replace("{,}", ",").replace("\N{MINUS SIGN}", "-")
    answer = " ".join(_FRACTION.sub(r"\\frac", answer).split())
    return answer.lstrip(" *`:=").rstrip(" *`:.,;")


def number(answer: str) -> Fraction | None:
    """The exact value of a plain number ('1,000', '-0.5', '1/2'), or None for anything else."""
    if not answer or len(answer) > _LONGEST_NUMBER or not re.fullmatch(NUMBER, answer):
        return None
    digits = answer.replace(",", "")
    try:
        return Fraction(digits)
    except (ValueError, ZeroDivisionError):  # a sign alone; a denominator of zero
        return None


def same_text(first: str, second: str) -> bool:
    r"""Whether two plain answers are the same characters, white space and `\text{}` aside."""
    return _bare(first) == _bare(second)


def _bare(answer: str) -> str:
    return "".join(_TEXT.sub(r"\1", answer).split())
