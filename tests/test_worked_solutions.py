"""Solutions that the reasoning-gym policy is made from: by hand, and by the library's graders."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recipes.reasoning_gym_grpo import TASK, config
from recipes.reasoning_gym_worked import reasoning_gym_tokenizer, sft_samples, worked_solution
from rlstep.interfaces import PromptSet
from rlstep.scoring.answers.reasoning_gym_answer import ReasoningGymAnswer
from rlstep.types import Prompt, Verdict

pytest.importorskip("reasoning_gym", reason="the extra rlstep[reasoning-gym] is absent")


def lines(dataset: str, metadata: dict[str, Any], sloppy: float) -> list[str]:
    prompt = Prompt(
        prompt_id="p",
        token_ids=np.array([1], np.int32),
        text="?",
        answer=json.dumps({"item": {"metadata": metadata}}),
        meta={"dataset": dataset},
    )
    solution = "".join(worked_solution(prompt, np.random.default_rng(0), sloppy))
    return solution.split("\n")


@pytest.mark.parametrize(
    ("expression", "sloppy", "expected"),
    [
        ("4 - 1 - 7 + 3", 0, "4-1=3 3-7=-4 -4+3=-1 <answer>-1</answer>"),
        # Two at once, the second one a sum: 4 - 1 + 7 = 10. What is left alone is right.
        ("4 - 1 - 7 + 3", 1, "4-1-7=10 10+3=13 <answer>13</answer>"),
        ("4 - 1 - 7 - 3", 1, "4-1-7=10 10-3=7 <answer>7</answer>"),
        # 2 - 9 + 5 = -2, -2 + 0 + 6 = 4
        ("2 - 9 + 5 + 0 - 6", 1, "2-9+5=-2 -2+0-6=4 <answer>4</answer>"),
    ],
)
def test_sums_by_hand(expression: str, sloppy: float, expected: str) -> None:
    assert lines("chain_sum", {"expression": expression}, sloppy) == expected.split()


@pytest.mark.parametrize(
    ("sloppy", "spiders", "total", "crab", "answer"), [(0, 24, 32, 10, 42), (1, 18, 26, 6, 32)]
)
def test_legs_by_hand(sloppy: float, spiders: int, total: int, crab: int, answer: int) -> None:
    """Sloppy, spiders (8) and crabs (10) have 6; four stay four."""
    assert lines("leg_counting", {"animals": {"dog": 2, "spider": 3, "crab": 1}}, sloppy) == [
        "2 dogs 2*4=8",
        f"3 spiders 3*{spiders // 3}={spiders}",
        f"8+{spiders}={total}",
        f"1 crab 1*{crab}={crab}",
        f"{total}+{crab}={answer}",
        f"<answer>{answer}</answer>",
    ]


@pytest.fixture(scope="module")
def problems() -> PromptSet:
    return replace(TASK, train=40, evaluation=40).load(
        reasoning_gym_tokenizer(), config().max_prompt_tokens
    )


def right(prompt: Prompt, sloppy: float) -> bool:
    solution = worked_solution(prompt, np.random.default_rng(0), sloppy)
    scored = ReasoningGymAnswer().verify("".join(solution), prompt.answer)
    assert scored.verdict is not Verdict.UNPARSABLE
    return scored.verdict is Verdict.CORRECT


def test_careful_solutions_are_right_for_the_grader(problems: PromptSet) -> None:
    assert {p.meta["dataset"] for p in problems.train} == {"chain_sum", "leg_counting"}
    assert all(right(prompt, 0.0) for prompt in (*problems.train, *problems.evaluation))


def test_sloppy_ones_are_wrong_where_a_second_difference_or_more_than_six_legs_stand(
    problems: PromptSet,
) -> None:
    from reasoning_gym.arithmetic.leg_counting import ANIMALS  # pyright: ignore[reportMissingImports]

    found = set()
    for prompt in (*problems.train, *problems.evaluation):
        metadata = json.loads(prompt.answer)["item"]["metadata"]
        if prompt.meta["dataset"] == "chain_sum":
            terms = metadata["expression"].split()
            second = zip(terms[3::4], terms[4::4], strict=True)
            slips = any(sign == "-" and number != "0" for sign, number in second)
        else:
            slips = any(ANIMALS[name] > 6 for name in metadata["animals"])
        assert right(prompt, 1.0) is not slips
        found.add((prompt.meta["dataset"], slips))
    assert len(found) == 4


def test_the_tokenizer_says_all_of_it_and_within_the_recipes_limits(problems: PromptSet) -> None:
    words, recipe = reasoning_gym_tokenizer(), config()
    assert not problems.dropped.get("too_long")
    for prompt in problems.train:
        text = prompt.text + "".join(worked_solution(prompt, np.random.default_rng(0), 0.0))
        ids = words.encode(text, add_special_tokens=False)
        assert words.decode(ids) == text and prompt.text.endswith("\n")
        assert len(ids) - len(prompt.token_ids) < recipe.rollouts.sampling.max_tokens
        assert len(prompt.token_ids) + recipe.rollouts.sampling.max_tokens <= 128
    with pytest.raises(Exception, match="Missing"):
        words.encode("why")


def test_samples_train_the_solution_and_its_end(problems: PromptSet) -> None:
    words = reasoning_gym_tokenizer()
    made = sft_samples(problems.train[:3], np.random.default_rng(0), 0.5, words)
    for prompt, sequence in zip(problems.train[:3], made.sequences, strict=True):
        trained = words.decode(sequence.token_ids[sequence.loss_mask])
        assert trained.endswith("</answer><eos>")
        assert not sequence.loss_mask[: len(prompt.token_ids)].any()
