"""Reading an answer as text and as a plain number: what both verifiers do before any algebra."""

from __future__ import annotations

import re
from fractions import Fraction

from rlstep.scoring.answers.forms import halved
from rlstep.scoring.answers.unicode_text import as_latex

NUMBER = r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)?(?:\.[0-9]+|(?<=[0-9])/[0-9]+)?"
"""An optional sign, digits (thousands may be set off by commas), then decimals or a denominator."""

MIXED = r"[-+]?[0-9]+ [0-9]+/[0-9]+"
"""A whole number and a fraction, as '3 1/4'."""

_LONGEST_NUMBER = 100
_THIN_SPACE = r"(?:\\[,;: ]|~)\s*"
_THOUSANDS = re.compile(rf"(?<![0-9])[0-9]{{1,3}}(?:{_THIN_SPACE}[0-9]{{3}})+(?![0-9])")
_LEADING_THOUSANDS = re.compile(r"[-+]?[0-9]{1,3}(?: [0-9]{3})+(?![0-9/]| [0-9])")
_BETWEEN = re.compile(rf"(?<=[0-9]){_THIN_SPACE}(?=[0-9])|(?<=[a-zA-Z]){_THIN_SPACE}(?=[a-zA-Z])")
_GROUPED = re.compile(r"(?<=[0-9])(?:,\\!|\{,\\?!?\})\s*(?=[0-9]{3}(?![0-9]))")
_TIED = re.compile(r"(?<=[0-9}])~(?=\\|[a-zA-Z])")
_DROPPED = re.compile(r"(?<!\\)(?:\\[!,;:()\[\]]|\\(?:left|right)(?![a-zA-Z]))|\\?\$")
_FRACTION = re.compile(r"\\[dt]frac(?![a-zA-Z])")

_LOOSE_SPACE = re.compile(r"(?<![0-9]) | (?![0-9])")
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm)?|mathrm|mbox)\{((?:[^{}]|\{[^{}]*\})*)\}")
_WHOLE_BOX = re.compile(
    r"\s*\$*\s*\\(?:boxed|fbox)\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}\s*\.?\s*\$*\s*"
)


def plain(answer: str) -> str:
    r"""An answer without what changes its look only.

    Dropped are dollar signs (mathematics or money), `\left` and `\right`, thin spaces, `\( \)` and
    `\[ \]`, Markdown emphasis at the ends, a leading '=' and closing punctuation; white space
    becomes one space, and a thin space between two digits or letters does. Of a box around it all
    the content is read. Of a number in groups of three digits the spaces are dropped: thin ones,
    and others if the answer begins with it.
    """
    if not answer.isascii():
        answer = as_latex(answer)
    if "box" in answer and (whole := _WHOLE_BOX.fullmatch(answer)):
        answer = whole[1]
    answer = halved(answer)
    if any(mark in answer for mark in "\\${~"):
        answer = _GROUPED.sub("", answer)
        answer = _BETWEEN.sub(" ", _THOUSANDS.sub(_digits, answer))
        answer = _FRACTION.sub(r"\\frac", _DROPPED.sub("", answer).replace("{,}", ","))
        answer = _TIED.sub(" ", answer)
    answer = " ".join(answer.split()).lstrip(" *`:=~")
    thousands = _LEADING_THOUSANDS.match(answer)
    if thousands:
        answer = _digits(thousands) + answer[thousands.end() :]
    return answer.rstrip(" *`:.,;")


def _digits(match: re.Match[str]) -> str:
    return re.sub(r"[^-+0-9]", "", match[0])


def number(answer: str) -> Fraction | None:
    """The exact value of a plain number ('1,000', '-0.5', '1/2', '3 1/4'), None for others."""
    if not answer or len(answer) > _LONGEST_NUMBER:
        return None
    mixed = re.fullmatch(MIXED, answer)
    if not mixed and not re.fullmatch(NUMBER, answer):
        return None
    whole, _, fraction = answer.replace(",", "").partition(" ")
    sign = "-" if whole.startswith("-") else ""
    try:
        return Fraction(whole) + Fraction(sign + fraction if mixed else 0)
    except (ValueError, ZeroDivisionError):  # a sign alone; a denominator of zero
        return None


def same_text(first: str, second: str) -> bool:
    r"""Whether two plain answers are the same characters, `\text{}` aside, and white space unless
    it stands between two digits."""
    return first == second or _bare(first) == _bare(second)


def _bare(answer: str) -> str:
    return _LOOSE_SPACE.sub("", " ".join(unwrapped(answer).split()))


def unwrapped(answer: str) -> str:
    r"""An answer with what its `\text{}` and the like hold in their places."""
    return _TEXT.sub(r"\1", answer) if "{" in answer else answer
