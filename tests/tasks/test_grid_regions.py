"""Grids of characters: the problems, what is right, and the exact evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.tasks.arithmetic import AnswerLine
from rlstep.tasks.grid_regions import (
    ALPHABET,
    LETTERS,
    SIDE,
    GridRegions,
    Region,
    RegionOverlap,
    grid_regions_tokenizer,
    overlap,
    read_region,
    sft_samples,
    worked_solution,
)
from rlstep.types import Prompt
from tests.builders import make_prompt, make_text_rollout

TOKENIZER = grid_regions_tokenizer()
TASK = GridRegions(train=48, evaluation=16)
PROBLEMS = TASK.load(TOKENIZER, 64)
EVERY = [*PROBLEMS.train, *PROBLEMS.evaluation]


def cells(prompt: Prompt) -> Mapping[tuple[int, int], str]:
    """What stands in the grid, read from the text alone."""
    lines = prompt.text.splitlines()[:SIDE]
    assert all(line[0] + line[1::2] == f"{'ABCDE'[r]}uvwxy" for r, line in enumerate(lines))
    return {(r, c): line[2 + 2 * c] for r, line in enumerate(lines) for c in range(SIDE)}


def found(prompt: Prompt, letter: str) -> tuple[Region, str]:
    """An object's region and digit from the text alone: its letter's cells, and the digit that
    touches one of them."""
    grid = cells(prompt)
    own = {place for place, cell in grid.items() if cell == letter}
    digit = next(
        place
        for place, cell in grid.items()
        if cell.isdigit() and any(abs(place[0] - r) + abs(place[1] - c) == 1 for r, c in own)
    )
    rows, columns = zip(*own, digit, strict=True)
    return Region(min(rows), min(columns), max(rows), max(columns)), grid[digit]


def test_every_problem_is_what_its_text_shows() -> None:
    for prompt in EVERY:
        asked = prompt.text.rstrip("\n")[-1]
        assert prompt.meta["asked"] == asked and set(prompt.text) <= set(ALPHABET)
        for letter in LETTERS[: TASK.objects]:
            region, digit = found(prompt, letter)
            assert prompt.meta["regions"][letter] == str(region) and 3 <= region.cells <= 6
            assert str(prompt.meta["digits"][letter]) == digit
            inside = [
                v for (r, c), v in cells(prompt).items() if overlap(Region(r, c, r, c), region)
            ]
            assert sorted(inside) == sorted(digit + letter * (region.cells - 1))
        assert prompt.answer == found(prompt, asked)[1]
        assert TOKENIZER.decode(prompt.token_ids) == prompt.text and len(prompt.token_ids) == 63


def test_splits_share_nothing_and_do_not_move() -> None:
    assert (len(PROBLEMS.train), len(PROBLEMS.evaluation), PROBLEMS.dropped) == (48, 16, {})
    assert len({p.prompt_id for p in EVERY}) == len({p.text for p in EVERY}) == 64
    again = replace(TASK, train=8, evaluation=4).load(TOKENIZER, 64)
    assert [p.text for p in again.train] == [p.text for p in PROBLEMS.train[:8]]
    other = replace(TASK, seed=1).load(TOKENIZER, 64)
    assert not {p.text for p in other.train} & {p.text for p in PROBLEMS.evaluation}
    assert TASK.load(TOKENIZER, 62).dropped == {"too_long": 64}


def test_a_region_is_read_as_it_is_written() -> None:
    assert read_region("Bv-Dx\n") == Region(1, 1, 3, 3) == read_region("Bv-Dx")
    assert str(Region(1, 1, 3, 3)) == "Bv-Dx" and str(Region(0, 4, 0, 4)) == "Ay-Ay"
    for text in ("", "Bv", "Bv-Dx#", "bv-dx\n", "Dv-Bx\n", "Bx-Dv\n", "Gu-Gu\n", "vB-xD\n"):
        assert read_region(text) is None


def test_overlap_by_hand() -> None:
    one = Region(0, 0, 1, 2)  # 2 x 3 = 6 cells
    assert overlap(one, one) == 1.0
    assert overlap(one, Region(1, 1, 2, 2)) == pytest.approx(2 / 8)  # 2 of 6 + 4 - 2
    assert overlap(one, Region(0, 0, 0, 0)) == pytest.approx(1 / 6)
    assert overlap(one, Region(2, 0, 3, 2)) == overlap(one, Region(0, 3, 1, 3)) == 0.0


REGIONS = st.builds(
    lambda a, b, c, d: Region(min(a, b), min(c, d), max(a, b), max(c, d)),
    *[st.integers(0, SIDE - 1)] * 4,
)


@given(REGIONS, REGIONS)
def test_overlap_is_that_of_sets_of_cells(one: Region, other: Region) -> None:
    def inside(r: Region) -> set[tuple[int, int]]:
        return {(i, j) for i in range(r[0], r[2] + 1) for j in range(r[1], r[3] + 1)}

    shared, either = inside(one) & inside(other), inside(one) | inside(other)
    assert overlap(one, other) == pytest.approx(len(shared) / len(either))
    assert overlap(one, other) == overlap(other, one) and read_region(str(one)) == one


PROMPT = replace(
    make_prompt(),
    answer="9",
    meta={"asked": "c", "regions": {"a": "Au-Av", "c": "Ew-Ey"}, "digits": {"a": 4, "c": 9}},
)


@pytest.mark.parametrize(
    ("steps", "region", "right", "error"),
    [
        (["Ew-Ey\n", "#9"], 1.0, True, None),
        (["Ew-Ey\n", "#4"], 1.0, False, 1),
        (["Ew-Ex\n", "#9"], 2 / 3, True, 0),  # 2 of 3 cells
        (["Au-Av\n", "#4"], 0.0, False, 0),
        (["Au-Av\n", "#9"], 0.0, True, 0),  # a right answer that was not seen
        (["Ey-Ew\n", "#9"], 0.0, True, 0),
        (["#9"], 0.0, True, 0),
        (["Ew-Ey\n", "#9\n", "#9"], 1.0, True, 1),
    ],
)
def test_region_and_answer_are_judged_apart(
    steps: list[str], region: float, right: bool, error: int | None
) -> None:
    rollout = make_text_rollout(PROMPT, steps)
    assert RegionOverlap().score(rollout).value == pytest.approx(region)
    assert AnswerLine().verify("".join(steps), PROMPT.answer).value == float(right)
    assert TASK.first_error(PROMPT, steps) == error


def test_careful_and_careless_solutions() -> None:
    rng = np.random.default_rng(0)
    for prompt in EVERY:
        careful = worked_solution(prompt, rng, 0.0)
        assert TASK.first_error(prompt, careful) is None
        careless = worked_solution(prompt, rng, 1.0)
        # It comes first where its first cell is the first of all objects in reading order.
        grid = [v for v in cells(prompt).values() if v != "."]
        first = next(
            name
            for name in prompt.meta["regions"]
            if careless == [f"{prompt.meta['regions'][name]}\n", f"#{prompt.meta['digits'][name]}"]
        )
        assert grid[0] in (first, str(prompt.meta["digits"][first]))
    samples = sft_samples(PROBLEMS.train[:2], rng, 0.5, TOKENIZER)
    assert [int(s.loss_mask.sum()) for s in samples.sequences] == [9, 9]  # 'Ew-Ey\n', '#9', eos


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"objects": 4}, "task.objects is 4"),
        ({"objects": 0}, "task.objects is 0"),
        ({"train": -1}, "task.train is -1; the smallest valid value is 0"),
    ],
)
def test_bad_fields_are_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GridRegions(**fields)
    with pytest.raises(ValueError, match=r"train is 999, but grids of 1 objects repeat"):
        GridRegions(objects=1, train=999).load(TOKENIZER, 64)
    assert len(GridRegions(objects=1, train=2, evaluation=0).load(TOKENIZER, 64).train) == 2


def test_the_recipe_begins_carefully_and_learns_some_problems_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "recipes"))
    import grid_regions_sft  # pyright: ignore[reportMissingImports]

    looked = grid_regions_sft.Looked(
        updates=2, batch=30, texts=10, careless=1.0, careful=1, problems=90
    )
    by_text = {p.text: p for p in GridRegions(train=90, evaluation=0).load(TOKENIZER, 64).train}
    right = []
    for samples in looked.batches(TOKENIZER, 0):
        trained = [int(s.loss_mask.sum()) for s in samples.sequences]
        whole = len(samples.sequences[0].token_ids)
        assert trained == [whole - 1] * 10 + [9] * 20  # all but the first token, or the solution
        texts = [TOKENIZER.decode(s.token_ids.tolist()) for s in samples.sequences]
        ends = [text.rindex("\n", 0, text.index("-")) + 1 for text in texts]
        solutions = [
            text[end:].removesuffix("<eos>") for text, end in zip(texts, ends, strict=True)
        ]
        errors = [
            TASK.first_error(by_text[text[:end]], solution.splitlines(keepends=True))
            for text, end, solution in zip(texts, ends, solutions, strict=True)
        ]
        right.append(sum(error is None for error in errors) / len(errors))
    assert right[0] == 1.0 > right[1]
