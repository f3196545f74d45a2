"""Answers for the verifier of mathematics: equal pairs, and random LaTeX out of a grammar."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

DATA = Path(__file__).parents[4] / "shared" / "data"


def read_rows(name: str) -> list[dict]:
    """Rows of a data set beside the repository.

    Raises:
        FileNotFoundError: it is not there.
    """
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def references() -> list[str]:
    """Every answer of MATH500, and of GSM8K's test set."""
    math500 = [row["answer"] for row in read_rows("math500/test.jsonl")]
    gsm8k = [row["answer"].split("####")[1].strip() for row in read_rows("gsm8k/test.jsonl")]
    return math500 + gsm8k


# --- other ways to write an answer ---------------------------------------------------------------

_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_FRACTION = re.compile(r"(-?)\\frac\{([0-9]+)\}\{([0-9]+)\}")
_SUM = re.compile(r"([a-z0-9]+) \+ ([a-z0-9]+)")


def _of_number(change: Callable[[Fraction, str], str | None]) -> Callable[[str], str | None]:
    def changed(answer: str) -> str | None:
        bare = answer.replace(",", "")
        return change(Fraction(bare), bare) if _NUMBER.fullmatch(bare) else None

    return changed


def _of_fraction(change: Callable[[str, int, int], str | None]) -> Callable[[str], str | None]:
    def changed(answer: str) -> str | None:
        match = _FRACTION.fullmatch(answer)
        return change(match[1], int(match[2]), int(match[3])) if match else None

    return changed


def _decimal(sign: str, over: int, under: int) -> str | None:
    rest = under
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return f"{sign}{over / under:.10g}" if rest == 1 else None


EQUIVALENTS: dict[str, Callable[[str], str | None]] = {
    "itself": lambda answer: answer,
    "in dollars": lambda answer: f"${answer}$",
    "in brackets": lambda answer: rf"\({answer}\)",
    "display style": lambda answer: rf"\displaystyle {answer}",
    "dfrac": lambda answer: answer.replace(r"\frac", r"\dfrac"),
    "left and right": lambda answer: re.sub(
        r"\)", r"\\right)", re.sub(r"(?<!\\left)\(", r"\\left(", answer.replace(r"\right)", ")"))
    ),
    "spaces": lambda answer: re.sub(r"([-+=,])", r" \1 ", answer) if "," not in answer else None,
    "named": lambda answer: f"x = {answer}" if "=" not in answer and "," not in answer else None,
    "times one": _of_number(lambda value, text: rf"1 \cdot {text}" if value > 0 else None),
    "decimals": _of_number(lambda value, text: f"{text}.0" if "." not in text else text + "0"),
    "thousands": _of_number(lambda value, text: f"{int(value):,}" if "." not in text else None),
    "as a fraction": _of_number(
        lambda value, text: rf"\frac{{{3 * value.numerator}}}{{{3 * value.denominator}}}"
    ),
    "with a unit": _of_number(lambda value, text: rf"{text} \text{{ cm}}"),
    "as a sum": _of_number(lambda value, text: f"{text} + 7 - 7"),
    "slashed": _of_fraction(lambda sign, over, under: f"{sign}{over}/{under}"),
    "expanded": _of_fraction(
        lambda sign, over, under: rf"{sign}\frac{{{5 * over}}}{{{5 * under}}}"
    ),
    "decimal": _of_fraction(_decimal),
    "sum turned round": lambda answer: (
        f"{match[2]} + {match[1]}" if (match := _SUM.fullmatch(answer)) else None
    ),
}
"""By name: an answer to the same answer written otherwise, or None where it does not apply."""

DIFFERENT: dict[str, Callable[[str], str | None]] = {
    "one more": _of_number(lambda value, text: str(value + 1)),
    "negated": _of_number(lambda value, text: f"-{text}" if value > 0 else None),
    "upside down": _of_fraction(
        lambda sign, over, under: rf"{sign}\frac{{{under}}}{{{over}}}" if over != under else None
    ),
    "plus one": lambda answer: f"{answer} + 1" if not set(answer) & set("=,[]<>t") else None,
}


def benign_pairs(answers: list[str]) -> Iterator[tuple[str, str, str]]:
    """(how it was made, what a model might write, reference)."""
    for answer, following in zip(answers, answers[1:] + answers[:1], strict=True):
        for name, change in (EQUIVALENTS | DIFFERENT).items():
            if (changed := change(answer)) is not None:
                yield name, changed, answer
        yield "the next reference", following, answer


# --- random LaTeX --------------------------------------------------------------------------------

_BINARY = ["{}+{}", "{}-{}", r"{}\cdot {}", "{}/{}", r"\frac{{{}}}{{{}}}", "{}={}"]
_BINARY += ["{},{}", "({},{})", "[{},{})", r"\{{{},{}\}}", "{}<{}", r"{}\le {}", r"{}\cup {}"]
_BINARY += [r"\log_{{{}}}{{{}}}", "{} {}", "{}_{{{}}}"]
_UNARY = [r"\sqrt{{{}}}", "-{}", "({})", r"\sin {}", r"\ln {}", "|{}|", r"{}\%", r"{}^\circ"]
_UNARY += [r"\text{{{}}}", r"\begin{{pmatrix}}{}\\1\end{{pmatrix}}", r"\left({}\right)", "{}^2"]
_UNARY += [r"\lfloor {} \rfloor", r"\overline{{{}}}"]
_LEAVES = [*"0123456789xyzntk", "12", "0.5", "1,000", r"\pi", "e", "i", r"\infty", r"\theta", ""]
_LEAVES += [r"\frac12", r"\emptyset", "AB", "x^2", r"\text{ or }", "2.5", "-1", r"\pm 3", "100"]
_LEAVES += ["3!", r"2^{-3}", r"\binom{5}{2}", r"\sqrt[3]{8}", r"\sum_{k=1}^{9} k", r"\int_0^1 x dx"]
_NOISE = [
    *"{}^_()[]\\$,=<|!%&#'\"@~`?;:",
    "__",
    r"\frac",
    r"\left",
    r"\end{pmatrix}",
    "é",
    "\u200b",
]


def random_latex(draw: random.Random, depth: int) -> str:
    """An expression out of a grammar, or the nonsense that one broken piece makes of it."""
    text = _expression(draw, depth)
    if draw.random() < 0.2:
        at = draw.randint(0, len(text))
        text = text[:at] + draw.choice(_NOISE) + text[at + draw.randint(0, 2) :]
    return text


def _expression(draw: random.Random, depth: int) -> str:
    kind = draw.random()
    if depth == 0 or kind < 0.3:
        return draw.choice(_LEAVES)
    if kind < 0.65:
        return draw.choice(_UNARY).format(_expression(draw, depth - 1))
    one, other = _expression(draw, depth - 1), _expression(draw, depth - 1)
    return draw.choice(_BINARY).format(one, other)
