"""The study's stand-in for an evolver, and its table; the model that measures is made up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from recipes.constraints_base import LONGEST_PROBLEM
from recipes.studies import instruction_evolution as study
from rlstep.scoring.answers.constraints_met import read_constraint
from rlstep.tasks.constraints import BETWEEN, constraints_tokenizer
from rlstep.types import Floats, TokenIds

SMALL = study.Study(instructions=12, rounds=2)
TOKENIZER = constraints_tokenizer()


def surer_of_later(rows: Sequence[TokenIds]) -> list[Floats]:
    """Says -1 of a row's second token, -1/2 of the third, -1/3, ..."""
    return [np.array([0, *(-1 / np.arange(1, len(row)))], np.float32) for row in rows]


def test_every_round_has_one_more_constraint_that_can_be_met() -> None:
    rounds, left_out = study.evolved(SMALL, TOKENIZER)
    assert len(rounds) == 3 and len(rounds[0]) == 12
    assert sum(map(len, rounds)) + sum(left_out.values()) >= 12 + 12
    for number, texts in enumerate(rounds):
        for text in texts:
            constraints = text.split(BETWEEN)
            assert len(constraints) == 2 + number and all(map(read_constraint, constraints))
            assert len(TOKENIZER.encode(text)) <= LONGEST_PROBLEM
    again, _ = study.evolved(SMALL, TOKENIZER)
    assert again == rounds


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    found = study.table(SMALL, TOKENIZER, surer_of_later)
    sizes = [row["instructions"] for row in found["rounds"]]
    kept = sum(row["kept_ic_ifd"] * row["instructions"] for row in found["rounds"])
    assert kept == pytest.approx(np.ceil(0.3 * sum(sizes))) and sizes[0] == 12
    # To this model later tokens are surer: longer questions have a lower L(Q), and what stands
    # behind them a lower L(A|Q).
    for name in ("question", "conditional"):
        values = [row[name] for row in found["rounds"]]
        assert values == sorted(values, reverse=True)
    study.show(found, 0.3)
    assert Counter(capsys.readouterr().out)["\n"] == 2 + len(sizes)
