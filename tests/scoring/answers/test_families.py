"""Families of equal and of different answers, and the law of equality over typed forms."""

from __future__ import annotations

import re
from itertools import combinations, permutations

import pytest

from rlstep.scoring.answers.math_answer import MathAnswer, compare
from rlstep.types import Verdict
from tests.scoring.answers.families import BEFORE, FAMILIES


def cases(side: int) -> list:
    return [
        pytest.param(*pair, id=f"{name}-{pair[0]}-{pair[1]}")
        for name, family in FAMILIES.items()
        for pair in family[side]
    ]


@pytest.mark.parametrize(("one", "other"), cases(0))
def test_equal(one, other):
    assert compare(one, other) is Verdict.CORRECT
    assert compare(other, one) is Verdict.CORRECT


@pytest.mark.parametrize(("one", "other"), cases(1))
def test_different(one, other):
    assert compare(one, other) is not Verdict.CORRECT
    assert compare(other, one) is not Verdict.CORRECT


def test_families_are_families():
    assert set(BEFORE) == set(FAMILIES)
    assert all(len(same) >= 20 and len(different) >= 20 for same, different in FAMILIES.values())


TYPED = [
    r"60\text{ minutes}", r"1\text{ hour}", r"3600\text{ s}", r"60\text{ cm}", r"0.6\text{ m}",
    "(1, 2)", r"\left(1,2\right)", r"\{1,2\}", r"\{2,1\}", "[1,2]", "[1,2)", "HHT", "THH",
    r"\text{HHT}", r"\frac{R}{r}", "R/r", "r/R", r"\frac{dy}{dx}", r"x^2+2x+1", "(x+1)^2", "X^2",
    r"2\sqrt{2}", r"\sqrt{8}", "2i", r"\sqrt{-4}", r"2\mathrm{i}",
    r"\begin{pmatrix}1\\2\end{pmatrix}",
    r"\$5", r"5\text{ dollars}", r"500\text{ cents}", r"5\text{ euros}", r"30^\circ", r"30\%",
]  # fmt: skip


@pytest.mark.parametrize("every", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_equality_of_typed_forms_is_transitive(every: int):
    forms = TYPED[::every]
    equal = {(a, b) for a in forms for b in forms if compare(a, b) is Verdict.CORRECT}
    assert all((a, a) in equal for a in forms)
    assert all((b, a) in equal for a, b in equal)
    for a, b, c in permutations(forms, 3):
        assert not ((a, b) in equal and (b, c) in equal) or (a, c) in equal, (a, b, c)
    assert len(equal) > len(forms)


BARE = {
    *("5", "10", "12", "18", "29", "90", "2", "1/10", "3:30", "B", "Option B", "2x", "6x", "2xy"),
    *(r"\approx 29", r"x \approx 29", "0.78"),
}
"""Of the families: bare values, a ratio that may be a time, a letter whose value is not said."""


def outside_the_law(form: str) -> bool:
    """Whether a form says less than those that it is equal to (see `comparison`)."""
    shown = re.sub(r"\\text|[{}().$]|\\[,;!]", "", form).strip()
    named = re.fullmatch(r"[a-zA-Z]'*(\(.*\))? = .*", form)
    bare_list = re.fullmatch(r"[^(\[{\\<]*[0-9](,| and| or|\\text\{ or \}).*", form)
    return bool({form, shown} & BARE or named or bare_list or r"\approx" in form)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_equality_is_transitive_over_a_family(name: str) -> None:
    forms = sorted({form for side in FAMILIES[name] for pair in side for form in pair})
    alike: dict[str, set[str]] = {form: set() for form in forms}
    for one, other in combinations(forms, 2):
        if compare(one, other) is Verdict.CORRECT:
            alike[one].add(other)
            alike[other].add(one)
    typed = [form for form in forms if not outside_the_law(form)]
    broken = [
        (one, middle, other)
        for middle in typed
        for one, other in combinations(sorted(alike[middle] & set(typed)), 2)
        if other not in alike[one]
    ]
    assert broken == [] and len(typed) > 20


@pytest.mark.parametrize(
    "text",
    ["#### −3", "#### －３", "The answer is –3.", "so it is −3", r"\boxed{−3}", "A: ‑3"],  # noqa: RUF001
)
def test_a_typed_dash_is_a_minus_sign_wherever_the_answer_stands(text):
    assert MathAnswer().verify(text, "-3").verdict is Verdict.CORRECT
    assert MathAnswer().verify(text, "3").verdict is Verdict.WRONG
