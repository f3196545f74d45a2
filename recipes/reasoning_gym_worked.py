"""Solutions of two of reasoning-gym's data sets as a learner of mixed quality would write them.

A solution has one step a line and ends with the answer. Of `4 - 1 - 7 + 3` (chain_sum):

    careful   4-1=3  3-7=-4  -4+3=-1  <answer>-1</answer>
    sloppy    4-1-7=10  10+3=13  <answer>13</answer>

Sloppy, a step does two operations at once and takes the second one for a sum. Of 2 dogs and 3
spiders (leg_counting):

    careful   2 dogs 2*4=8  3 spiders 3*8=24  8+24=32  <answer>32</answer>
    sloppy    2 dogs 2*4=8  3 spiders 3*6=18  8+18=26  <answer>26</answer>

Sloppy, nothing has more than six legs: a spider is an insect.
"""

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from rlstep.interfaces import Tokenizer
from rlstep.tasks.synthetic import closed_tokenizer, solution_samples
from rlstep.types import LabelSamples, Prompt

SUM = "State the final answer to the following arithmetic problem: "
LEGS = (
    "Your task is to count how many legs there are in total when given a list of animals.\n\n"
    "Now, how many legs are there in total if you have "
)
ANSWER, END = "<answer>", "</answer>"
INSECT = 6
"""Legs that a sloppy learner gives to whatever has more."""


@cache
def animals() -> dict[str, int]:
    """Legs of the data set's animals, by the words that a question has for one and for several."""
    from reasoning_gym.arithmetic.leg_counting import ANIMALS  # pyright: ignore[reportMissingImports]

    return {name + end: legs for name, legs in ANIMALS.items() for end in ("", "s")}


def reasoning_gym_tokenizer() -> Any:
    """A transformers PreTrainedTokenizerFast of both languages: what stands in every question, an
    animal, the answer's tags and every other character are a token each. Anything else raises."""
    pieces = [SUM, LEGS, ANSWER, END, *sorted(animals(), key=len, reverse=True)]
    pattern = "|".join(map(re.escape, pieces))
    return closed_tokenizer([*pieces, *"0123456789+-*=,? \n"], rf"{pattern}|[\s\S]")


def chain_sum(item: dict[str, Any], rng: np.random.Generator, sloppy: float) -> list[str]:
    """The steps for an item of this data set, without the answer's."""
    first, *rest = item["metadata"]["expression"].split()
    terms = [(sign, int(number)) for sign, number in zip(rest[::2], rest[1::2], strict=True)]
    value, steps = int(first), list[str]()
    while terms:
        taken = terms[: 2 if rng.random() < sloppy else 1]
        terms = terms[len(taken) :]
        said = "".join(f"{sign}{number}" for sign, number in taken)
        result = value
        for place, (sign, number) in enumerate(taken):
            result += -number if sign == "-" and place == 0 else number
        steps.append(f"{value}{said}={result}\n")
        value = result
    return steps


def leg_counting(item: dict[str, Any], rng: np.random.Generator, sloppy: float) -> list[str]:
    """The steps for an item of this data set, without the answer's."""
    total, steps = None, list[str]()
    for name, count in item["metadata"]["animals"].items():
        word = name + ("s" if count > 1 else "")
        legs = animals()[word]
        legs = min(legs, INSECT) if rng.random() < sloppy else legs
        steps.append(f"{count} {word} {count}*{legs}={count * legs}\n")
        if total is not None:
            steps.append(f"{total}+{count * legs}={total + count * legs}\n")
        total = (total or 0) + count * legs
    return steps


WORKED: dict[str, Callable[[dict[str, Any], np.random.Generator, float], list[str]]] = {
    "chain_sum": chain_sum,
    "leg_counting": leg_counting,
}


def worked_solution(prompt: Prompt, rng: np.random.Generator, sloppy: float) -> list[str]:
    """One text per step.

    Args:
        prompt: of either data set.
        sloppy: probability of the sloppy way, drawn for every step.
    """
    item = json.loads(prompt.answer)["item"]
    steps = WORKED[prompt.meta["dataset"]](item, rng, sloppy)
    result = steps[-1].removesuffix("\n").rpartition("=")[2]
    return [*steps, f"{ANSWER}{result}{END}"]


def sft_samples(
    prompts: Sequence[Prompt], rng: np.random.Generator, sloppy: float, tokenizer: Tokenizer
) -> LabelSamples:
    """One worked solution per problem to train on (see `synthetic.solution_samples`)."""
    solutions = [worked_solution(prompt, rng, sloppy) for prompt in prompts]
    return solution_samples(prompts, solutions, tokenizer)
