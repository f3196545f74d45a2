"""PRM800K's rows: the labeler's path, what else was proposed, and which steps have a label."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from rlstep.examples.prm800k import Prm800K
from rlstep.tensors.templates import PromptTemplate
from rlstep.types import LabelSamples
from tests.examples.test_judged_steps import BYTES, labels, only, written

BARE = PromptTemplate(chat=False, text="{problem}\n")


def said(text: str, rating: int | None, flagged: bool | None = None) -> dict[str, Any]:
    return {"text": text, "rating": rating, "flagged": flagged}


def step(*completions: dict[str, Any], chosen: int | None = 0, human: str = "") -> dict[str, Any]:
    own = {"text": human, "rating": None, "source": "human", "flagged": False} if human else None
    return {"completions": list(completions), "human_completion": own, "chosen_completion": chosen}


def row(*steps: dict[str, Any], finish: str = "solution", **fields: Any) -> dict[str, Any]:
    return {
        "labeler": "a",
        "generation": 1,
        "is_quality_control_question": False,
        "is_initial_screening_question": False,
        "question": {"problem": "2+3?", "ground_truth_answer": "5"},
        "label": {"steps": list(steps), "total_time": 1, "finish_reason": finish},
        **fields,
    }


FOUND_ERROR = row(
    step(said("We add.", 0)),
    step(said("It is 6.", -1), said("It is 5.", 1), said("Hm.", None), chosen=None),
    finish="found_error",
)


def spoken(samples: LabelSamples) -> list[list[tuple[str, float | None]]]:
    """Of every sequence its steps with their targets, None for those without a label."""
    found = []
    for number, sequence in enumerate(samples.sequences):
        known = labels(samples, number)
        steps: dict[int, list[int]] = {}
        for at, k in enumerate(sequence.step_index.tolist()):
            if k >= 0:
                steps.setdefault(k, []).append(at)
        found.append(
            [
                (
                    BYTES.decode(sequence.token_ids[at].tolist()),
                    known[at[-1]][0] if at[-1] in known else None,
                )
                for at in steps.values()
            ]
        )
        # Labels stand nowhere but at the last tokens of steps.
        assert set(known) <= {at[-1] for at in steps.values()}
    return found


def read(path: str, **fields: Any) -> list[list[tuple[str, float | None]]]:
    """In an order that says nothing."""
    found = spoken(only(Prm800K(path=path, template=BARE, **fields)))
    return sorted(found, key=lambda steps: (len(steps), repr(steps)))


def test_a_solution_up_to_its_first_error_and_what_stood_beside_it(tmp_path: Path) -> None:
    """Nothing is chosen at the error: the path takes the sampled step, the first one. The other
    step with a rating is a sequence whose shared beginning has no label; the third has no label."""
    assert read(written(tmp_path, FOUND_ERROR)) == [
        [("We add.\n", 1.0), ("It is 6.\n", 0.0)],
        [("We add.\n", None), ("It is 5.\n", 1.0)],
    ]


def test_the_labels_token_by_token(tmp_path: Path) -> None:
    samples = only(Prm800K(path=written(tmp_path, FOUND_ERROR), template=BARE))
    [whole] = [n for n in range(2) if len(labels(samples, n)) == 2]
    tokens = BYTES.convert_ids_to_tokens(samples.sequences[whole].token_ids.tolist())
    assert tokens == "2 + 3 ?Ċ We Ġadd .Ċ It Ġis Ġ 6 .Ċ".split()
    assert labels(samples, whole) == {6: (1.0, 1.0), 11: (0.0, 1.0)}
    [other] = [n for n in range(2) if n != whole]
    assert labels(samples, other) == {11: (1.0, 1.0)}


def test_a_path_that_reaches_its_answer_ends(tmp_path: Path) -> None:
    """The second of two proposals is chosen, then a step that the labeler wrote, then the end."""
    solved = row(
        step(said("Subtract.", -1), said("Add.", 1), chosen=1),
        step(said("2+3=6", -1), chosen=None, human="2+3=5"),
        step(said("So 5.\n\n# Answer\n\n5", 1)),
    )
    assert read(written(tmp_path, solved)) == [
        [("Subtract.\n", 0.0)],
        [("Add.\n", None), ("2+3=6\n", 0.0)],
        [("Add.\n", 1.0), ("2+3=5\n", 1.0), ("So 5.\n\n# Answer\n\n5<|im_end|>", 1.0)],
    ]


@pytest.mark.parametrize("neutral", [0.0, 0.5, 1.0])
def test_a_neutral_step_has_the_target_that_is_asked_for(neutral: float, tmp_path: Path) -> None:
    path = written(tmp_path, row(step(said("We look.", 0)), step(said("5", 1))))
    assert read(path, neutral=neutral) == [[("We look.\n", neutral), ("5\n", 1.0)]]


def test_null_and_flagged_steps_are_read_and_have_no_label(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        row(
            step(said("a", None), said("b", 1, flagged=True)), step(said("c", -1)), finish="give_up"
        ),
    )
    assert read(path) == [[("a\n", None), ("c\n", 0.0)]]


def test_a_path_ends_where_nothing_is_there(tmp_path: Path) -> None:
    empty = {"completions": None, "human_completion": None, "chosen_completion": None}
    path = written(tmp_path, row(step(said("a", 1)), empty, step(said("b", 1))))
    assert read(path) == [[("a\n", 1.0)]]


def test_what_checks_the_labelers_and_broken_problems_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    steps = (step(said("a", 1)),)
    path = written(
        tmp_path,
        row(*steps, is_quality_control_question=True),
        row(*steps, is_initial_screening_question=True, generation=-1),
        row(*steps, finish="bad_problem"),
        row(*steps, finish="give_up"),
    )
    with caplog.at_level(logging.WARNING):
        assert len(only(Prm800K(path=path)).sequences) == 1
    assert "2 left out, it checks the labelers (examples.quality_control" in caplog.text
    assert "1 left out, the labeler called the problem broken" in caplog.text
    assert len(only(Prm800K(path=path, quality_control=True)).sequences) == 3


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (row(step(said("a", 2))), r"'label.steps.0.completions.0.rating': is 2; it is -1, 0, 1 or"),
        (row(step(said("a", 1), chosen=1)), "'label.steps.0.chosen_completion': is 1 of 1 comp"),
        (row(step(said(" ", 1))), "'label.steps.0.completions.0.text': empty"),
        (row(step(said("a", 1)), question={}), "'question.problem': missing"),
        (row(step(said("a", 1)), label={"finish_reason": "solution"}), "'label.steps': missing"),
        (row(step(said("a " * 70, 1))), r"'label.steps': makes \d+ tokens with its prompt"),
    ],
)
def test_a_row_that_does_not_fit_is_named(
    broken: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = written(tmp_path, FOUND_ERROR, broken)
    with pytest.raises(ValueError, match=f"line 2, field {words}"):
        list(Prm800K(path=path, longest=64).batches(BYTES, 0))


def test_bad_fields() -> None:
    with pytest.raises(ValueError, match=r"examples\.neutral is 1.5; the largest valid value is 1"):
        Prm800K(path="a.jsonl", neutral=1.5)
