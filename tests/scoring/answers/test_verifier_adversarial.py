"""What a model may write to hang the verifier, or to run code in it."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rlstep.scoring.answers.answer_text import plain
from rlstep.scoring.answers.math_answer import MathAnswer, last_boxed
from rlstep.scoring.processes.verifier_pool import VerifierPool
from rlstep.types import Failure, OutcomeScore, Verdict
from tests.scoring.answers.mathematics import random_latex

DEADLINE_S = 1.0
SYMBOLIC = r"\sqrt{2}+x"
"""A reference that is no number: against a number, more of what is hostile is refused early."""

BLOW_UPS = [
    "9**9**9",
    "9**9**9**9",
    "10**10**10",
    "2**(10**9)",
    "9^9^9^9",
    "9^{9^{9}}",
    "$9^{9^{9^9}}$",
    r"\frac{9^{9^{9^9}}}{3}",
    r"\binom{10^9}{5*10^8}",
    r"\int_0^1 x^{x^{x^x}} dx",
    "factorial(10**7)",
    "(10^7)!",
    "44!!",
    "(1+x)**9999",
    "(1+x)^{9999}",
    r"\sum_{k=1}^{10^9} \frac{1}{k}",
    r"\prod_{k=1}^{10^8} k",
    "(" * 3000 + "1" + ")" * 3000,
    "(" * 300 + "1" + ")" * 300,
    r"\sqrt{" * 100 + "2" + "}" * 100,
    "9" * 10_000,
    "9" * 1_000_000,
]

# CANARY is replaced by an expression that makes a file.
INJECTIONS = [
    "CANARY",
    "CANARY+1",
    "1+CANARY",
    "(lambda: CANARY)()",
    "[c for c in ().__class__.__base__.__subclasses__()] and CANARY",
    "sympify('CANARY')",
    "eval('CANARY')",
    "exec('CANARY')",
    r"CANARY#\pi",
    "f'{CANARY}'",
    "3 if CANARY else 3",
    r"\text{CANARY}",
    r"\operatorname{CANARY}(1)",
    r"\frac{CANARY}{2}",
    r"\input{|CANARY}",
    r"\sqrt{2}+x#\pi CANARY",
    "x.__class__(CANARY)",
    "{CANARY}",
    "\N{FULLWIDTH LATIN SMALL LETTER O}pen(PATH,'w')",
    '\N{CYRILLIC SMALL LETTER IE}val("CANARY")',
]
FRAMES = [r"\boxed{%s}", "The answer is %s", "#### $%s$", "so %s = 3", "$%s$"]


def children() -> set[str]:
    """Process ids of this process's children, ended but unreaped ones included."""
    lists = Path("/proc/self/task").glob("*/children")
    return {pid for path in lists for pid in path.read_text().split()}


@pytest.fixture(scope="module")
def pool():
    before = children()
    with VerifierPool(MathAnswer(), workers=2, deadline_s=DEADLINE_S, memory_mb=1024) as pool:
        assert len(children() - before) == 2
        yield pool
    assert children() <= before  # no worker outlives its pool, whatever was fed to it


@pytest.fixture(scope="module")
def patient_pool():
    """With the deadline that a run has: for what must not need it, on a busy machine as well."""
    with VerifierPool(MathAnswer(), workers=2) as pool:
        yield pool


async def test_blow_ups_end_in_time_and_fail_alone(pool):
    items = [(rf"\boxed{{{text}}}", SYMBOLIC) for text in BLOW_UPS]
    benign = (rf"\boxed{{{SYMBOLIC}}}", SYMBOLIC)
    mixed = [item for blow_up in items for item in (benign, blow_up)]
    start = time.monotonic()
    outcomes = await pool.verify(mixed)
    took = time.monotonic() - start
    assert all(isinstance(o, OutcomeScore) and o.value == 1.0 for o in outcomes[0::2])
    hostile = outcomes[1::2]
    reasons = {o.reason for o in hostile if isinstance(o, Failure)}
    assert reasons == {"timeout"}  # some do hang, and none is anything worse
    assert not any(isinstance(o, OutcomeScore) and o.value for o in hostile)
    # every item had its deadline, at most, and every timeout one start of a replacement
    timeouts = sum(isinstance(o, Failure) for o in hostile)
    assert took <= 1.2 * DEADLINE_S * len(items) + 5.0 * timeouts


async def test_injected_code_does_not_run(pool, tmp_path):
    canary = tmp_path / "canary"
    call = f"__import__('os').system('touch {canary}')"
    opened = f"open('{canary}','w')"
    items = []
    for code in (call, opened):
        for text in INJECTIONS:
            text = text.replace("CANARY", code).replace("PATH", f"'{canary}'")
            for frame in FRAMES:
                items += [(frame % text, reference) for reference in ("7", SYMBOLIC)]
    assert len(items) == 2 * 20 * 5 * 2
    outcomes = await pool.verify(items)
    assert not canary.exists()
    for (text, _), outcome in zip(items, outcomes, strict=True):
        accepted = isinstance(outcome, OutcomeScore) and outcome.value == 1.0
        assert not accepted, text
        assert not isinstance(outcome, Failure) or outcome.reason == "timeout", (text, outcome)


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
    items = [(f"The answer is {mutated(rng.choice(seeds), rng)}", "90") for _ in range(500)]
    outcomes = await patient_pool.verify(items)
    failures = [o for o in outcomes if isinstance(o, Failure)]
    assert {o.reason for o in failures} <= {"timeout"}
    assert len(failures) <= 0.01 * len(items)


# --- one at a time, by the clock -------------------------------------------------------------


async def tick(late: list[float]) -> None:
    """Notes by how much each of many short sleeps was too long."""
    while True:
        started = time.monotonic()
        await asyncio.sleep(0.02)
        late.append(time.monotonic() - started - 0.02)


@dataclass
class Watch:
    """Has a pool of one worker verify single items, and measures each.

    From the time of an item is taken what the machine was late by meanwhile: a short sleep of this
    process, over and over, says how long it waits for a core. An item waits twice or three times,
    for the pool's thread, for the killed process and for the caller.
    """

    pool: VerifierPool
    deadline_s: float
    seconds: list[float] = field(default_factory=list)
    by_the_clock: list[float] = field(default_factory=list)
    outcomes: list[OutcomeScore | Failure] = field(default_factory=list)

    async def verify(self, text: str, reference: str) -> OutcomeScore | Failure:
        late = [0.0]
        ticker = asyncio.create_task(tick(late))
        started = time.monotonic()
        (outcome,) = await self.pool.verify([(text, reference)])
        self.by_the_clock.append(time.monotonic() - started)
        self.seconds.append(self.by_the_clock[-1] - 3 * max(late))
        ticker.cancel()
        self.outcomes.append(outcome)
        if isinstance(outcome, Failure):  # its worker was killed: start the next off the clock
            (benign,) = await self.pool.verify([("#### 5", "5")])
            assert isinstance(benign, OutcomeScore) and benign.verdict is Verdict.CORRECT
        return outcome

    def check(self) -> None:
        """Prints what happened; nothing was late, crashed or was left behind."""
        failures = [o for o in self.outcomes if isinstance(o, Failure)]
        reasons = Counter(failure.reason for failure in failures)
        limit = 1.2 * self.deadline_s
        late = [s for s in self.seconds if s > limit]
        print(
            f"\n{len(self.outcomes)} items, {len(late)} later than {limit:.2f} s (the slowest"
            f" {max(self.seconds):.2f} s), with the machine's delays"
            f" {sum(s > limit for s in self.by_the_clock)} ({max(self.by_the_clock):.2f} s),"
            f" failures {dict(reasons)}"
        )
        assert late == []
        memory = sum("MemoryError" in failure.detail for failure in failures)
        assert reasons.keys() <= {"timeout", "crashed"} and reasons["crashed"] == memory, failures
        assert len(self.pool.pids()) == 1


@pytest.fixture
def watch():
    before = children()
    deadline_s = 2.0
    with VerifierPool(MathAnswer(), workers=1, deadline_s=deadline_s, memory_mb=1024) as pool:
        watch = Watch(pool, deadline_s)
        yield watch
        watch.check()
    assert children() <= before


def generated_blow_ups(number: int, draw: random.Random) -> Iterator[str]:
    """Towers, factorials, binomials, sums and integrals that nobody can work out."""
    for _ in range(number):
        a, b, c = (draw.randint(2, 10**9) for _ in range(3))
        small = draw.randint(5, 99)
        yield draw.choice(
            [
                f"{small}^{{{small}^{{{a}}}}}",
                f"{small}^{small}^{small}^{small}",
                f"{small}**{small}**{a}",
                f"({a}^{{{b}}})!",
                f"{a}!!",
                rf"\binom{{{a}}}{{{b}}}",
                rf"\frac{{{a}!}}{{{b}!}}",
                rf"\sum_{{k=1}}^{{{a}}} \frac{{1}}{{k^{{{small}}}}}",
                rf"\prod_{{k=1}}^{{{a}}} (k+x)",
                rf"\int_0^{{{small}}} \sin(x^{{x^{{x}}}}) e^{{x^{small}}} dx",
                rf"\int \frac{{x^{{{small}}}}}{{\sqrt{{x^{{{small}}}+{a}}}}} dx",
                rf"(x+y+z+{a})^{{{draw.randint(300, 10**6)}}}",
                rf"\sqrt[{a}]{{{b}^{{{c}}}}}",
                rf"\log_{{{small}}}({a}^{{{b}}})",
                "(" * small + "1" + ")" * small,
                rf"\sqrt{{{small}+" * draw.randint(10, 60) + "1" + "}" * 60,
            ]
        )


@pytest.mark.slow
async def test_a_few_generated_blow_ups_keep_their_deadline(watch):
    for text in generated_blow_ups(6, random.Random(1)):
        outcome = await watch.verify(rf"\boxed{{{text}}}", SYMBOLIC)
        assert isinstance(outcome, Failure) or outcome.value == 0.0


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_500_generated_blow_ups_keep_their_deadline(watch):
    for text in [*BLOW_UPS, *generated_blow_ups(500, random.Random(0))]:
        outcome = await watch.verify(rf"\boxed{{{text}}}", SYMBOLIC)
        assert isinstance(outcome, Failure) or outcome.value == 0.0


async def check_random_latex(watch: Watch, number: int, depth: int, canary: Path) -> None:
    draw = random.Random(0)
    code = f"__import__('os').system('touch {canary}')"
    for i in range(number):
        found, reference = random_latex(draw, depth), random_latex(draw, depth)
        if i % 10 == 0:
            at = draw.randint(0, len(found))
            found = found[:at] + code + found[at:]
        await watch.verify(rf"\boxed{{{found}}}", plain(reference) or "x")
    assert not canary.exists()


async def test_a_little_random_latex(watch, tmp_path):
    await check_random_latex(watch, 100, 2, tmp_path / "canary")


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_10000_strings_of_random_latex(watch, tmp_path):
    await check_random_latex(watch, 10_000, 4, tmp_path / "canary")


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
    await check_symmetry(patient_pool, 200, 2)


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
    "5" + "\N{COMBINING ENCLOSING CIRCLE}" * 100,
    "\r\n\t\v\f\x1b[31m5",
    "\\",
    "%",
    "\\boxed{" * 1000,
    "7 " * 500_000,
]


async def test_odd_text_has_a_clean_result(patient_pool):
    items = [(frame % odd, "5") for odd in ODD for frame in (*FRAMES, "%s")]
    items += [("#### 5", odd) for odd in ODD if odd.strip()]
    for (text, reference), outcome in zip(items, await patient_pool.verify(items), strict=True):
        assert isinstance(outcome, OutcomeScore), (text[:50], reference[:50], outcome)
    (outcome,) = await patient_pool.verify([("#### 5", " ")])  # the task's mistake, not the model's
    assert isinstance(outcome, Failure) and "reference answer is empty" in outcome.detail
