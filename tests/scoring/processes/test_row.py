"""What a verifier is handed beside text and answer: that which its `verify` names, and no more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from unittest.mock import ANY

import pytest

from rlstep.interfaces import Verifier
from rlstep.testing.roles import FakeScorer
from rlstep.types import Failure, OutcomeScore, Rollout
from tests.builders import make_prompt, make_rollout
from tests.scoring.processes.patient_pool import PatientPool
from tests.scoring.processes.reading import (
    Inherits,
    Plain,
    WithBoth,
    WithReason,
    WithRow,
    correct,
)


def rollout(meta: Mapping[str, Any], finish_reason: str = "stop") -> Rollout:
    made = make_rollout("r", [[1]], prompt=replace(make_prompt(), meta=meta))
    return replace(made, completion=replace(made.completion, finish_reason=finish_reason))


@pytest.mark.parametrize(
    ("kind", "asks", "sent"),
    [
        (Plain, set(), {}),
        (WithRow, {"row"}, {"row": {"level": 3}}),
        (WithReason, {"finish_reason"}, {"finish_reason": "length"}),
        (WithBoth, {"row", "finish_reason"}, {"row": {"level": 3}, "finish_reason": "length"}),
        (Inherits, {"row"}, {"row": {"level": 3}}),
    ],
)
def test_only_what_is_named_is_sent(
    kind: type[Verifier], asks: set[str], sent: dict[str, Any]
) -> None:
    assert kind.asks == asks
    assert kind().item(rollout({"level": 3}, "length")) == ("1 ", "42", sent)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "meta",
            r"verify takes 'meta'; beside text and answer .* row and finish_reason \(nearest: ",
        ),
        ("rows", r"takes 'rows'.*\(nearest: 'row'\)"),
        ("*, finish", r"takes 'finish'.*\(nearest: 'finish_reason'\)"),
        ("row, prompt", r"takes 'prompt'"),
    ],
)
def test_another_name_is_refused_where_the_class_is_made(source: str, message: str) -> None:
    space: dict[str, Any] = {"Verifier": Verifier}
    code = f"class Mine(Verifier):\n    def verify(self, text, answer, {source}): ..."
    with pytest.raises(ValueError, match=message):
        exec(code, space)  # our own text; a class statement that fails


ROWS: list[Mapping[str, Any]] = [
    {},
    {"level": 1},
    {"unit": "cm²", "text": "\u2028\n\x00 é 🙂"},
    {"half": "\ud800"},
    {"nested": {"a": [1, [2.5, {"b": None}]], "empty": {}}},
    {"large": 10**30, "small": 5e-324, "yes": True},
    {"long": "x" * 300_000},
    {"text": "in the row", "answer": "too", "row": "and this", "finish_reason": "and that"},
]


async def test_rows_arrive_as_they_are() -> None:
    with PatientPool(WithRow(), workers=2) as pool:
        outcomes = await pool.verify([WithRow().item(rollout(row)) for row in ROWS * 20])
        tuples = await pool.verify([WithRow().item(rollout({"pair": (1, (2, 3))}))])
    found = [json.loads(o.extracted) for o in [*outcomes, *tuples] if isinstance(o, OutcomeScore)]
    assert found == [*ROWS * 20, {"pair": [1, [2, 3]]}]


async def test_a_pool_and_this_process_hand_over_the_same() -> None:
    rollouts = [rollout({"level": i}, "length" if i % 2 else "stop") for i in range(9)]
    for verifier in (Plain(), WithReason(), WithBoth()):
        with PatientPool(verifier, workers=1) as pool:
            there = await pool.verify([verifier.item(rollout) for rollout in rollouts])
        here = await FakeScorer(verifier=verifier).verify(rollouts)
        assert [r.scores["outcome"] for r in here] == there


async def test_a_row_without_what_is_read_is_a_failure_of_that_item_alone() -> None:
    with PatientPool(WithBoth(), workers=1) as pool:
        items = [WithBoth().item(rollout(row)) for row in ({"level": 1}, {}, {"level": None})]
        outcomes = await pool.verify(items)
    assert outcomes == [
        correct(["stop", 1, 1]),
        Failure(reason="crashed", detail=ANY),
        correct(["stop", None, 1]),
    ]
