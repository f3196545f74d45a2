"""What a model may write to keep the verifier busy, or to have something run in it.

Each guard of ours is met by a harmless text: bounds are set low, a comparison that hangs is one
that sleeps, and of what must not be read one character is enough.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import math_verify.parser
import pytest

from rlstep.scoring.answers import comparison, symbolic
from rlstep.scoring.answers.answer_text import plain
from rlstep.scoring.answers.extraction import last_boxed
from rlstep.scoring.answers.math_answer import MathAnswer, compare
from rlstep.scoring.processes.verifier_pool import VerifierPool
from rlstep.types import Failure, OutcomeScore, Verdict
from tests.scoring.answers.mathematics import random_latex
from tests.scoring.answers.slow_answer import COMPUTES, STANDS_STILL, SlowAnswer
from tests.scoring.processes.patient_pool import PatientPool

SYMBOLIC = r"\sqrt{2}+x"
"""A reference that is no number: against a number, more of what is odd is refused early."""
FRAMES = [r"\boxed{%s}", "The answer is %s", "#### $%s$", "so %s = 3", "$%s$"]


def children() -> set[str]:
    """Process ids of this process's children, ended but unreaped ones included."""
    lists = Path("/proc/self/task").glob("*/children")
    return {pid for path in lists for pid in path.read_text().split()}


@pytest.fixture(scope="module")
def patient_pool():
    """A deadline of CPU time: for what must not need it, on a busy machine as well."""
    before = children()
    with PatientPool(MathAnswer(), workers=2) as pool:
        yield pool
    assert children() <= before  # no worker outlives its pool, whatever was fed to it


async def test_comparisons_that_hang_are_ended_and_fail_alone():
    right = (rf"\boxed{{{SYMBOLIC}}}", SYMBOLIC)
    hanging = [(text, SYMBOLIC) for text in (STANDS_STILL, COMPUTES)]
    before = children()
    with PatientPool(SlowAnswer(), workers=2, deadline_s=0.5, memory_mb=1024) as pool:
        outcomes = await pool.verify([right, hanging[0], right, hanging[1], right])
    assert children() <= before
    for number, outcome in enumerate(outcomes):
        if number in (1, 3):
            assert outcome == Failure(reason="timeout", detail="no verdict within 0.5 s")
        else:
            assert isinstance(outcome, OutcomeScore) and outcome.value == 1.0


# --- what is never read --------------------------------------------------------------------------


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What reaches the grammar."""
    seen: list[str] = []

    def parse(answer: str) -> list[object]:
        seen.append(answer)
        return [answer]

    monkeypatch.setattr(symbolic, "_parse", parse)
    symbolic.parsed.cache_clear()
    comparison._compare_values.cache_clear()
    yield seen
    comparison._compare_values.cache_clear()


@pytest.mark.parametrize(
    ("bound", "text", "longer"),
    [("_LONGEST", "x + y + 12", "x + y + 123"), ("_DEEPEST", "((x)) + [2]", "(((x))) + [2]")],
)
def test_what_is_too_large_is_not_read(
    bound: str, text: str, longer: str, read: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(comparison, bound, {"_LONGEST": 10, "_DEEPEST": 2}[bound])
    assert compare(longer, "y") is Verdict.UNPARSABLE and not read
    assert compare("y", longer) is Verdict.WRONG and not read
    assert compare(longer, longer) is Verdict.CORRECT and not read
    compare(text, "y")
    assert read


@pytest.mark.parametrize("sign", ["'", '"', "`", "#", "@", "?", "~", "__", ".x", "\x00", "\u0436"])
@pytest.mark.parametrize("place", ["(%sx) + 1", "x %s+ 1", "x + (1%s)"])
def test_what_no_mathematics_is_written_with_is_not_read(place: str, sign: str, read: list[str]):
    text = place % sign
    for found, reference in ((text, SYMBOLIC), (SYMBOLIC, text), (text, "7"), ("7", text)):
        assert compare(found, reference) is not Verdict.CORRECT
    assert not read


def test_no_answer_is_read_as_a_program(monkeypatch: pytest.MonkeyPatch):
    """Math-Verify has a second parser, for expressions that are not LaTeX, which is Python's."""
    calls = []
    monkeypatch.setattr(math_verify.parser, "parse_expr", lambda *a, **k: calls.append(a))
    plain_expressions = ["x + 1", "2*x", "x(2)", "a[1]", "lambda", "print(1)", "x if y", "f(x)(y)"]
    for text in plain_expressions:
        compare(text, SYMBOLIC)
        compare(SYMBOLIC, text)
        for frame in FRAMES:
            MathAnswer().verify(frame % text, SYMBOLIC)
    assert not calls


PIECES = [*"{}^_()[]9\\$,=<|!%&# ", r"\frac", r"\sqrt", r"\text{", r"\int", r"\sum", r"\boxed{"]


def mutated(text: str, rng: random.Random) -> str:
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(text))
        cut = at + rng.choice([0, 0, 1, 3])
        text = text[:at] + rng.choice([*PIECES, ""]) + text[cut:]
    return text


async def test_mutated_answers_never_crash_the_verifier(patient_pool):
    seeds = [
        r"\frac{14}{3}",
        r"\left( 3, \frac{\pi}{2} \right)",
        r"(-\infty, 2) \cup (3, \infty)",
        r"\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}",
        r"11,\! 111,\! 111,\! 100",
        r"x^5 - x^4 + x^3 - 1",
        r"\{1\pm\sqrt{5},-2\}",
        r"864 \mbox{ inches}^2",
        "90",
    ]
    rng = random.Random(0)
    items = [(f"The answer is {mutated(rng.choice(seeds), rng)}", "90") for _ in range(200)]
    outcomes = await patient_pool.verify(items)
    assert [o for o in outcomes if isinstance(o, Failure)] == []


async def check_random_latex(pool: VerifierPool, number: int, depth: int) -> None:
    draw = random.Random(0)
    pairs = [(random_latex(draw, depth), random_latex(draw, depth)) for _ in range(number)]
    items = [(rf"\boxed{{{found}}}", plain(reference) or "x") for found, reference in pairs]
    outcomes = await pool.verify(items)
    assert [(i, o) for i, o in zip(items, outcomes, strict=True) if isinstance(o, Failure)] == []


async def test_a_little_random_latex(patient_pool):
    await check_random_latex(patient_pool, 30, 2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_10000_strings_of_random_latex(patient_pool):
    await check_random_latex(patient_pool, 10_000, 3)


# --- symmetry ------------------------------------------------------------------------------------


def boxable(draw: random.Random, depth: int) -> str:
    r"""Random LaTeX whose braces let `\boxed{}` hold all of it: both ways compare the same then."""
    while True:
        text = random_latex(draw, depth)
        if last_boxed(rf"\boxed{{{text}}}") == text:
            return text


async def check_symmetry(pool: VerifierPool, number: int, depth: int) -> None:
    """Pairs of a random string with itself, varied, and with another one, both ways round."""
    draw = random.Random(2)
    pairs = []
    for _ in range(number):
        text, other = boxable(draw, depth), boxable(draw, depth)
        pairs.append(
            (text, draw.choice([other, f"x={text}", f"{text}=y", f"({text})", "5=" + text]))
        )
    ways = []
    for one, other in ((0, 1), (1, 0)):
        items = [(rf"\boxed{{{pair[one]}}}", plain(pair[other]) or "x") for pair in pairs]
        ways.append(await pool.verify(items))
    compared = equal = 0
    for pair, first, second in zip(pairs, *ways, strict=True):
        if isinstance(first, OutcomeScore) and isinstance(second, OutcomeScore):
            assert (first.value == 1.0) == (second.value == 1.0), pair
            compared, equal = compared + 1, equal + int(first.value)
    print(f"\n{compared} of {number} pairs compared both ways, {equal} equal")
    assert compared >= 0.9 * number and equal >= 0.1 * number


async def test_verdicts_are_symmetric(patient_pool):
    await check_symmetry(patient_pool, 30, 2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_10000_verdicts_are_symmetric(patient_pool):
    await check_symmetry(patient_pool, 10_000, 3)


# --- odd text ------------------------------------------------------------------------------------

ODD = [
    "",
    " ",
    "\x00",
    "5\x00",
    "\ud800",
    "\udcff5",
    "\N{RIGHT-TO-LEFT OVERRIDE}5",
    "\N{ARABIC-INDIC DIGIT FIVE}",
    "\N{GRINNING FACE}",
    "\N{ZERO WIDTH SPACE}5",
    "5\N{COMBINING ENCLOSING CIRCLE}",
    "\r\n\t\v\f\x1b[31m5",
    "\\",
    "%",
    "\\boxed{" * 20,
    "7 " * 5_000,
]


async def test_odd_text_has_a_clean_result(patient_pool):
    items = [(frame % odd, "5") for odd in ODD for frame in (*FRAMES, "%s")]
    items += [("#### 5", odd) for odd in ODD if odd.strip()]
    for (text, reference), outcome in zip(items, await patient_pool.verify(items), strict=True):
        assert isinstance(outcome, OutcomeScore), (text[:50], reference[:50], outcome)
    (outcome,) = await patient_pool.verify([("#### 5", " ")])  # the task's mistake, not the model's
    assert isinstance(outcome, Failure) and "reference answer is empty" in outcome.detail
