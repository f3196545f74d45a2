"""Pictures of characters, and questions whose answer stands in one region: made, not downloaded.

A picture is a grid. Each of its objects is a rectangle of one letter with one digit in it, and
objects keep a cell's distance. The question names an object, and a solution looks before it
answers: its first step names the region, by its first and its last cell, the second what is there.
Every cell has its column's name before it, so that a policy of two layers can tell where it is.

    Au.v.w.xbyb
    Buavaw.x7yb
    Cu4vaw.x.y.
    Du.v.w.x.y.
    Eu.v.wcx9yc
    ?c

    Ew-Ey
    #9

So a chain of thought can be right, look at a wrong region and read it well, or read a right one
wrongly, and which it is, is known exactly: what UV-CoT (arXiv:2504.18397) asks another model.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np

from rlstep.checks import at_least, between
from rlstep.interfaces import PromptSet, Task, Tokenizer
from rlstep.scoring.rewards.each_rollout import EachRollout
from rlstep.tasks.synthetic import closed_tokenizer, fitting, solution_samples
from rlstep.types import LabelSamples, Prompt, Rollout, RolloutScore

SIDE = 5
"""Rows and columns of a grid."""
ROWS, COLUMNS = "ABCDE", "uvwxy"
LETTERS = "abc"
ALPHABET = f"0123456789.-?#\n{ROWS}{COLUMNS}{LETTERS}"
_REGION = re.compile(rf"([{ROWS}])([{COLUMNS}])-([{ROWS}])([{COLUMNS}])\n?")


class Region(NamedTuple):
    """A rectangle of cells, its bounds included, counted from 0."""

    top: int
    left: int
    bottom: int
    right: int

    def __str__(self) -> str:
        first, last = f"{ROWS[self.top]}{COLUMNS[self.left]}", f"{ROWS[self.bottom]}"
        return f"{first}-{last}{COLUMNS[self.right]}"

    @property
    def cells(self) -> int:
        return (self.bottom - self.top + 1) * (self.right - self.left + 1)


def read_region(text: str) -> Region | None:
    """The region that a step names, None where it names none or one without a cell."""
    match = _REGION.fullmatch(text)
    if match is None:
        return None
    top, bottom = ROWS.index(match[1]), ROWS.index(match[3])
    left, right = COLUMNS.index(match[2]), COLUMNS.index(match[4])
    return Region(top, left, bottom, right) if top <= bottom and left <= right else None


def overlap(one: Region, other: Region) -> float:
    """Cells in both over cells in either, in [0, 1]: intersection over union."""
    height = min(one.bottom, other.bottom) - max(one.top, other.top) + 1
    width = min(one.right, other.right) - max(one.left, other.left) + 1
    shared = max(0, height) * max(0, width)
    return shared / (one.cells + other.cells - shared)


def grid_regions_tokenizer() -> Any:
    """A transformers PreTrainedTokenizerFast with one token per character of `ALPHABET`.

    `<pad>` is 0, `<eos>` 1. Any other character raises.
    """
    return closed_tokenizer(ALPHABET, r"[\s\S]")


class _Object(NamedTuple):
    region: Region
    digit: int


_Drawn: TypeAlias = tuple[str, tuple[_Object, ...]]
"""A problem's text, with the objects of its grid."""


@dataclass(frozen=True, kw_only=True)
class GridRegions(Task):
    """Random grids, one question each. A step oracle, too (see interfaces.StepOracle).

    The text decides whether a problem is for training or, one in eight, for evaluation. `meta` has
    every object's region by its letter under 'regions', its digit under 'digits', and the letter
    that is asked for under 'asked'.
    """

    objects: int = 3
    """Of a grid, 1 to 3."""
    train: int = 4096
    """Number of training problems."""
    evaluation: int = 512
    """Number of evaluation problems."""
    seed: int = 0
    """Which problems are drawn."""

    def __post_init__(self) -> None:
        between("task.objects", self.objects, 1, len(LETTERS))
        at_least("task.train", self.train, 0)
        at_least("task.evaluation", self.evaluation, 0)

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        """Make the problems. `dropped` counts those over `max_prompt_tokens` as 'too_long'."""
        train, evaluation = (
            [_prompt(text, objects, tokenizer) for text, objects in _drawn(self, split, number)]
            for split, number in (("train", self.train), ("evaluation", self.evaluation))
        )
        return fitting(train, evaluation, max_prompt_tokens)

    def first_error(self, prompt: Prompt, step_texts: Seq[str]) -> int | None:
        """0 where the first step does not name exactly the region that is asked for, 1 where the
        second does not read its digit, 2 where a third follows; None where all is right."""
        right = (f"{prompt.meta['regions'][prompt.meta['asked']]}\n", f"#{prompt.answer}")
        for index, text in enumerate(step_texts):
            if index >= len(right) or text != right[index]:
                return index
        return None


@dataclass(frozen=True, kw_only=True)
class RegionOverlap(EachRollout):
    """How well the region that a chain of thought names is the one that was asked for, in [0, 1].

    The exact evaluator of UV-CoT's candidate regions (Zhao et al. 2025, arXiv:2504.18397, ask a
    model in its place): intersection over union of the first step's region and the object's. A
    first step that names no region has looked at none, 0.
    """

    source: ClassVar[str] = "region"

    def score(self, rollout: Rollout) -> RolloutScore:
        """Raises: KeyError: the prompt is none of `GridRegions`."""
        meta = rollout.prompt.meta
        asked = read_region(meta["regions"][meta["asked"]])
        named_one = read_region(rollout.step_text(0)) if rollout.steps else None
        assert asked is not None, "the task writes regions that can be read"
        return RolloutScore(value=0.0 if named_one is None else overlap(named_one, asked))


# --- making problems -----------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _drawn(task: GridRegions, split: str, number: int) -> tuple[_Drawn, ...]:
    """A split's problems. A run asks for them twice: to check them, and to begin.

    Raises:
        ValueError: there are not so many different ones.
    """
    rng = np.random.default_rng([task.seed, zlib.crc32(split.encode())])
    found: dict[str, tuple[_Object, ...]] = {}
    seen, repeated = set[str](), 0
    while len(found) < number:
        objects = _objects(task.objects, rng)
        text = f"{_picture(objects)}?{LETTERS[rng.integers(task.objects)]}\n"
        repeated = repeated + 1 if text in seen else 0
        seen.add(text)
        if repeated == 1_000:
            raise ValueError(
                f"task.{split} is {number}, but grids of {task.objects} objects repeat after"
                f" {len(found)}; ask for fewer, or for more objects"
            )
        if (zlib.crc32(text.encode()) % 8 == 0) == (split == "evaluation"):
            found[text] = objects
    return tuple(found.items())


def _objects(number: int, rng: np.random.Generator) -> tuple[_Object, ...]:
    arrangements = _arrangements(number)
    regions = arrangements[rng.integers(len(arrangements))]
    order, digits = rng.permutation(number), rng.integers(10, size=number)
    return tuple(_Object(regions[i], int(digit)) for i, digit in zip(order, digits, strict=True))


@cache
def _arrangements(number: int) -> list[tuple[Region, ...]]:
    """Every choice of so many rectangles of 3 to 6 cells that keep a cell's distance."""
    sizes = [(h, w) for h in (1, 2, 3) for w in (1, 2, 3) if 3 <= h * w <= 6]
    regions = [
        Region(top, left, top + height - 1, left + width - 1)
        for height, width in sizes
        for top in range(SIDE - height + 1)
        for left in range(SIDE - width + 1)
    ]
    apart = {(one, other): _apart(one, other) for one in regions for other in regions}
    return [
        chosen
        for chosen in combinations(regions, number)
        if all(apart[pair] for pair in combinations(chosen, 2))
    ]


def _apart(one: Region, other: Region) -> bool:
    rows = one.bottom + 1 < other.top or other.bottom + 1 < one.top
    return rows or one.right + 1 < other.left or other.right + 1 < one.left


def _picture(objects: Seq[_Object]) -> str:
    """The grid's lines. An object's digit stands in a cell that the digit counts to, neither the
    first nor the last one of its region."""
    cells = [["."] * SIDE for _ in range(SIDE)]
    for letter, (region, digit) in zip(LETTERS, objects, strict=False):
        inside = [
            (row, column)
            for row in range(region.top, region.bottom + 1)
            for column in range(region.left, region.right + 1)
        ]
        for row, column in inside:
            cells[row][column] = letter
        row, column = inside[1 + digit % (len(inside) - 2)]
        cells[row][column] = str(digit)
    return "".join(
        f"{name}{''.join(map(''.join, zip(COLUMNS, row, strict=True)))}\n"
        for name, row in zip(ROWS, cells, strict=True)
    )


def _prompt(text: str, objects: Seq[_Object], tokenizer: Tokenizer) -> Prompt:
    asked = text[-2]
    return Prompt(
        prompt_id=f"{zlib.crc32(text.encode()):08x}-{asked}",
        token_ids=np.array(tokenizer.encode(text, add_special_tokens=False), np.int32),
        text=text,
        answer=str(objects[LETTERS.index(asked)].digit),
        meta={
            "asked": asked,
            "regions": {name: str(o.region) for name, o in zip(LETTERS, objects, strict=False)},
            "digits": {name: o.digit for name, o in zip(LETTERS, objects, strict=False)},
        },
    )


# --- solutions -----------------------------------------------------------------------------------


def worked_solution(prompt: Prompt, rng: np.random.Generator, careless: float) -> list[str]:
    """A solution as a learner of mixed quality would write it: region and answer.

    Careful, it looks at the object that is asked for. Careless, it looks at the one that comes
    first in the picture, whatever is asked, and reads what is there.

    Args:
        careless: probability of the careless way.
    """
    regions = prompt.meta["regions"]
    first = min(regions, key=lambda name: read_region(regions[name]) or (SIDE,))
    looked = first if rng.random() < careless else prompt.meta["asked"]
    return [f"{regions[looked]}\n", f"#{prompt.meta['digits'][looked]}"]


def sft_samples(
    prompts: Seq[Prompt], rng: np.random.Generator, careless: float, tokenizer: Tokenizer
) -> LabelSamples:
    """One worked solution per problem to train on (see `synthetic.solution_samples`)."""
    solutions = [worked_solution(prompt, rng, careless) for prompt in prompts]
    return solution_samples(prompts, solutions, tokenizer)
