"""What people are told about a recorded rollout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from rlstep.reporting.reading import (
    Scale,
    first_error,
    main_source,
    printable,
    scales,
    spans,
    who_tells,
)

CHANCES = Scale(source="prm", middle=0.5, reach=0.5)
SIGNED = Scale(source="prime", middle=0.0, reach=2.0)


def row(scores: Sequence[float | str | None], **more: Any) -> dict[str, Any]:
    """None: a step without a score."""
    steps = [{"text": "", "scores": {} if s is None else {"prm": s}} for s in scores]
    return {"steps": steps, **more}


@pytest.mark.parametrize(
    ("scale", "score", "level"),
    [
        (CHANCES, 0.0, "bad"),
        (CHANCES, 0.19, "bad"),
        (CHANCES, 0.2, "poor"),
        (CHANCES, 0.39, "poor"),
        (CHANCES, 0.5, "unsure"),
        (CHANCES, 0.61, "fair"),
        (CHANCES, 0.81, "good"),
        (CHANCES, 1.0, "good"),
        (SIGNED, -2.0, "bad"),
        (SIGNED, -0.9, "poor"),  # (-0.9 + 2) / 4 = 0.275
        (SIGNED, 0.0, "unsure"),
        (SIGNED, 2.0, "good"),
        (SIGNED, 9.0, "good"),
        (SIGNED, -9.0, "bad"),
    ],
)
def test_a_fifth_of_the_scale_is_a_level(scale: Scale, score: float, level: str):
    assert scale.level(score) == level


@pytest.mark.parametrize(
    ("scores", "middle", "reach"),
    [
        ([0.2, 0.9], 0.5, 0.5),
        ([0.0, 1.0], 0.5, 0.5),
        ([0.0], 0.5, 0.5),
        ([-0.1, 0.4], 0.0, 0.4),
        ([3.0, 0.5], 0.0, 3.0),
        (["nan", 0.5], 0.5, 0.5),
        (["inf", 0.5], 0.5, 0.5),
        (["inf", -2.0], 0.0, 2.0),
        (["nan"], 0.5, 0.5),
    ],
)
def test_scores_outside_0_and_1_are_read_by_their_sign(
    scores: list[float | str], middle: float, reach: float
):
    assert scales([row(scores)]) == {"prm": Scale(source="prm", middle=middle, reach=reach)}


def test_rows_without_steps_have_no_scale():
    assert scales([{"failure": "lost"}, row([]), row([None])]) == {}


@pytest.mark.parametrize(
    ("sources", "chosen"),
    [(["prm", "urm"], "prm"), (["urm", "oracle"], "oracle"), (["urm"], "urm"), ([], None)],
)
def test_the_watched_source_colours_where_it_is_there(sources: list[str], chosen: str | None):
    assert main_source(sources, "prm") == chosen


@pytest.mark.parametrize(
    ("recorded", "error", "who"),
    [
        (row([0.9, 0.4, 0.1]), 1, "prm below 0.5"),
        (row([0.9, 0.5]), None, "prm below 0.5"),  # 1/2 is what an untrained PRM says of all
        (row([None, 0.2]), 1, "prm below 0.5"),
        (row(["nan", 0.2]), 1, "prm below 0.5"),
        (row([]), None, "prm below 0.5"),
        (row([0.9, 0.4], first_error=0), 0, "by the task's own check"),
        (row([0.9, 0.4], first_error=None), None, "by the task's own check"),
    ],
)
def test_the_first_error_is_the_oracles_or_the_first_low_score(
    recorded: dict[str, Any], error: int | None, who: str
):
    assert first_error(recorded, CHANCES) == error
    assert who_tells(recorded, CHANCES) == who


def test_without_scores_there_is_no_first_error():
    assert first_error(row([None]), None) is None
    assert who_tells(row([None]), None) == "no step scores"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größer ≥ 3\n\tx", "größer ≥ 3\n\tx"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\rb\x07", "a\\rb\\x07"),
        ("\u202e1", "\\u202e1"),
        ("\ud800", "\\ud800"),
    ],
)
def test_control_characters_are_written_out(text: str, shown: str):
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([], ""),
        ([4], "4"),
        ([1, 2, 3], "1 to 3"),
        ([0, 2], "0, 2"),
        ([1, 2, 3, 7, 9, 10], "1 to 3, 7, 9 to 10"),
    ],
)
def test_neighbours_are_told_together(numbers: list[int], told: str):
    assert spans(numbers) == told
