"""What the recipe of the policy teaches: every role's share, and every text by the exact check."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from rlstep.scoring.answers.constraints_met import violated
from rlstep.tasks.constraints import BETWEEN, MISSED, constraints_tokenizer

TOKENIZER = constraints_tokenizer()


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "recipes"))
    sys.modules.pop("constraints_sft", None)
    import constraints_sft  # pyright: ignore[reportMissingImports]

    return replace(constraints_sft.ThreeRoles(), problems=400, beginning=1, updates=3)


def written(samples) -> list[tuple[str, str]]:
    """(prompt, completion) of every sequence, without the end-of-sequence token."""
    return [
        (
            TOKENIZER.decode(s.token_ids[~s.loss_mask].tolist()),
            TOKENIZER.decode(s.token_ids[s.loss_mask].tolist()[:-1]),
        )
        for s in samples.sequences
    ]


def test_three_roles(examples) -> None:
    first, *rest = islice(examples.batches(TOKENIZER, 0), 9)
    assert len(rest) == 2
    easy = written(first)
    assert len(easy) == 160 and all(p.count(BETWEEN) == 1 for p, _ in easy)
    every = written(rest[0])
    judged = [(p, said) for p, said in every if p.startswith("judge\n")]
    refined = [(p, said) for p, said in every if p.startswith("refine\n")]
    assert (len(every), len(judged), len(refined)) == (80, 32, 16)
    for prompt, said in judged:
        problem, answer = (part.rpartition(">\n")[2] for part in prompt.split("\n</")[:2])
        missed = violated(problem.split(BETWEEN), answer)
        named = [line.removesuffix(MISSED) for line in said.splitlines() if line.endswith(MISSED)]
        assert named == missed
        assert said.endswith(f"Verdict: {'WRONG' if missed else 'CORRECT'}")
    right = sum(said.endswith("Verdict: CORRECT") for _, said in judged)
    assert 16 <= right <= 24  # every other one, and edits that did no harm
    answers = [(p, said) for p, said in every if "\n" not in p.rstrip("\n")]
    share = sum(not violated(p.strip().split(BETWEEN), a) for p, a in answers) / len(answers)
    assert len(answers) == 32 and 0.2 < share < 0.8


def test_the_same_for_the_same_seed(examples) -> None:
    def rows(seed: int) -> list:
        return [written(s) for s in examples.batches(TOKENIZER, seed)]

    assert rows(1) == rows(1) != rows(2)
