"""What a model may write to hang the verifier, or to run code in it."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from rlstep.scoring.math_answer import MathAnswer
from rlstep.scoring.verifier_pool import VerifierPool
from rlstep.types import Failure, OutcomeScore

DEADLINE_S = 1.0

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
    "\N{FULLWIDTH LATIN SMALL LETTER O}pen(PATH,'w')",
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


async def test_blow_ups_end_in_time_and_fail_alone(pool):
    reference = r"\sqrt{2}+x"  # symbolic: against a number, more of them are refused early
    items = [(rf"\boxed{{{text}}}", reference) for text in BLOW_UPS]
    benign = (rf"\boxed{{{reference}}}", reference)
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
                items += [(frame % text, reference) for reference in ("7", r"\sqrt{2}+x")]
    assert len(items) == 2 * 16 * 5 * 2
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


async def test_mutated_answers_never_crash_the_verifier(pool):
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
    outcomes = await pool.verify(items)
    failures = [o for o in outcomes if isinstance(o, Failure)]
    assert {o.reason for o in failures} <= {"timeout"}
    assert len(failures) <= 0.01 * len(items)
