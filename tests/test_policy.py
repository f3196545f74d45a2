"""The shipped policies are those that the README speaks of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recipes.questions_base import PROBLEMS
from recipes.reasoning_gym_grpo import TASK as GYM
from rlstep.environments.guess_number import GuessNumber
from rlstep.interfaces import PromptSet, Task, Verifier
from rlstep.scoring.answers.constraints_met import violated
from rlstep.scoring.answers.exact_answer import ExactAnswer
from rlstep.scoring.answers.reasoning_gym_answer import ReasoningGymAnswer
from rlstep.tasks.arithmetic import AnswerLine, Arithmetic
from rlstep.tasks.arithmetic_writing import ArithmeticWriting, WrittenProblem
from rlstep.tasks.constraints import Constraints
from rlstep.tasks.grid_regions import GridRegions
from rlstep.tasks.guess_number import NEWLINE, GuessNumberTask
from rlstep.tasks.logic import ANSWER_LINE, Logic
from rlstep.tasks.modular_chain import ModularChain, chain, recalled
from rlstep.tasks.precedence import Precedence
from rlstep.types import Action, Verdict

POLICIES = Path(__file__).parents[1] / "recipes" / "policies"
SHA256 = {
    "arithmetic": "7aeb1f5ecaf724d291c6b91a9f364c162431b4d1be506e6f673c5a805eebbb69",
    "logic": "2efcee3dd6a7376d5bab25f87dd29f1ebe1eeb20caa83320c81f8b68d2e408b3",
    "guess_number": "01cc8fd60cd8b271c6af080364deb4b0d31d14ac165a13e52e7b2eb1fe5d7811",
    "arithmetic_tool": "e3c349813ca1aa63d2e66463c31164e4075545ddc23ca53b9145062399d0c012",
    "reasoning_gym": "33286a4692039ce55b7b27e0d41f08341db7358de852dc82069aebd14d92a81f",
    "questions": "edfff9818b1ac666b90f8f686976d4e08161790409e6adb7254e1761423de1c6",
    "modular_chain": "72343decd003a2bef18506a3bc13e686b0f5d27076981ba732b11991e5f554cf",
    "arithmetic_diffusion": "7681e671293e75ce31389909d481c3e740163a8f843fc26cebe78daf5d2bea2b",
    "grid_regions": "c601114fe668c7354180eeca48646283587fef99c368427c150a4b47ef979cff",
    "constraints": "62ae583c9290260e54f3a6d84c4e8f85e3b76c2821fdaab5ac9e52d667797741",
    "both/base": "87c0c07361ce100cfe1c13d1be4b1cb1e6ca6efa61a464e29ab5426a87480081",
    "both/arithmetic": "9cc25fbdad4d0936c7ead1b1dc59d35e2c6067670932b0d0fa3c4a0d1a72f6e4",
    "both/logic": "ceae73bbe4f42ef0d0c45cc7a18196e5bc42b30d102a1207bd081d012560e8c1",
}
TASKS: dict[str, tuple[Any, Verifier]] = {
    "arithmetic": (
        Arithmetic(operations=8, largest_operand=9, largest_factor=3, limit=20),
        AnswerLine(),
    ),
    "logic": (Logic(premises=3), ExactAnswer(pattern=ANSWER_LINE)),
    "arithmetic_tool": (Precedence(), AnswerLine()),
    "reasoning_gym": (GYM, ReasoningGymAnswer()),
    "modular_chain": (ModularChain(operations=16), AnswerLine()),
    "grid_regions": (GridRegions(), AnswerLine()),
    "both/arithmetic": (
        Arithmetic(operations=5, largest_operand=9, largest_factor=3, limit=20),
        AnswerLine(),
    ),
    "both/logic": (Logic(premises=3), ExactAnswer(pattern=ANSWER_LINE)),
}


@dataclass(frozen=True, kw_only=True)
class EveryFourth(ArithmeticWriting):
    """Enough of its held-out prompts."""

    def load(self, tokenizer: Any, max_prompt_tokens: int) -> PromptSet:
        every = super().load(tokenizer, max_prompt_tokens)
        return replace(every, evaluation=every.evaluation[::4])


@pytest.mark.parametrize("name", SHA256)
def test_weights_are_those_that_were_shipped(name: str) -> None:
    folder = POLICIES / name
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == SHA256[name]
    assert sum(f.stat().st_size for f in folder.iterdir()) < 4 << 20


@cache
def solutions(name: str, task: Task) -> list[tuple[str, Any]]:
    """Greedy completions of held-out problems, with transformers alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(POLICIES / name, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(POLICIES / name)
    prompts = task.load(tokenizer, 64).evaluation
    batch = tokenizer([p.text for p in prompts], return_tensors="pt", padding=True)
    with torch.no_grad():
        out = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=72,
            do_sample=False,
        )
    completions = out[:, batch["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
    return list(zip(texts, prompts, strict=True))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("arithmetic", 0.6),
        ("logic", 0.67),
        ("arithmetic_tool", 0.58),
        ("modular_chain", 0.97),
        ("grid_regions", 0.41),
        ("both/arithmetic", 1.0),
        ("both/logic", 0.74),
        pytest.param(
            "reasoning_gym",
            0.51,
            marks=pytest.mark.skipif(
                find_spec("reasoning_gym") is None,
                reason="the extra rlstep[reasoning-gym] is absent",
            ),
        ),
    ],
)
def test_the_share_of_unseen_problems_that_it_solves_greedily(name: str, expected: float) -> None:
    task, verifier = TASKS[name]
    solved = solutions(name, replace(task, train=1, evaluation=256))
    verdicts = [verifier.verify(text, p.answer).verdict for text, p in solved]
    accuracy = sum(v is Verdict.CORRECT for v in verdicts) / len(verdicts)
    assert accuracy == pytest.approx(expected, abs=0.05)


def test_the_share_of_instructions_that_are_followed_greedily() -> None:
    task = Constraints(levels=(0, 1, 2), train=1, evaluation=192)
    met = [not violated(p.meta["constraints"], text) for text, p in solutions("constraints", task)]
    assert sum(met) / len(met) == pytest.approx(0.54, abs=0.05)


def test_what_is_written_greedily_is_as_asked() -> None:
    """Every fourth of the 820 held-out prompts that ask for a problem."""
    task = EveryFourth(problems=PROBLEMS)
    asked = solutions("questions", task)
    verifier = WrittenProblem(problems=PROBLEMS)
    right = [
        verifier.verify(text, prompt.answer).verdict is Verdict.CORRECT for text, prompt in asked
    ]
    assert len(right) == 205 and sum(right) / len(right) > 0.95


def test_a_quarter_of_the_logic_policys_solutions_is_right_throughout() -> None:
    """The others guess the answer, or come to it by steps that do not follow."""
    task = replace(TASKS["logic"][0], train=1, evaluation=256)
    right = [
        task.first_error(prompt, text.splitlines(keepends=True)) is None
        for text, prompt in solutions("logic", task)
    ]
    assert sum(right) / len(right) == pytest.approx(0.28, abs=0.05)


def test_the_chain_policy_errs_at_every_place_as_often_and_by_habit() -> None:
    """What it would say of each step after a solution without an error, at temperature 1."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(POLICIES / "modular_chain")
    model: Any = AutoModelForCausalLM.from_pretrained(POLICIES / "modular_chain")
    prompts = ModularChain(operations=64, train=0, evaluation=32).load(tokenizer, 160).evaluation
    right, habit, known = np.zeros((3, len(prompts), 64))
    for row, prompt in enumerate(prompts):
        (named, values), start = chain(prompt.text), len(prompt.token_ids)
        steps = [f"{n}{o}={v}\n" for (n, o), v in zip(named, values[1:], strict=True)]
        ids = [*prompt.token_ids.tolist(), *tokenizer.encode("".join(steps))]
        with torch.no_grad():
            said = model(input_ids=torch.tensor([ids])).logits[0].softmax(-1).numpy()
        for step, ((_, operation), value) in enumerate(zip(named, values, strict=False)):
            at = said[start + 4 * step + 1]  # behind the name and the operation
            wrong, rate = recalled(value, operation)
            known[row, step] = 1 - rate
            for found, result in ((right, values[step + 1]), (habit, wrong)):
                found[row, step] = at[tokenizer.convert_tokens_to_ids(f"={result}")]
    more = (right - known).reshape(len(prompts), 4, 16).mean((0, 2))
    assert more == pytest.approx([0.0] * 4, abs=0.015)  # in each quarter of the chain
    assert (right + habit).mean() > 0.98 and right.mean() == pytest.approx(0.88, abs=0.02)


def test_the_share_of_games_that_the_guesser_wins() -> None:
    """At temperature 1, with transformers alone, every range and number of the task once."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(POLICIES / "guess_number", padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(POLICIES / "guess_number")
    problems = GuessNumberTask().load(tokenizer, 64)
    prompts = [*problems.train, *problems.evaluation]
    games = [(p, GuessNumber(guesses=5).reset(p, 0), [p.text]) for p in prompts]
    torch.manual_seed(0)
    won = 0
    while games:
        batch = tokenizer(["".join(said) for *_, said in games], return_tensors="pt", padding=True)
        with torch.no_grad():
            out = model.generate(
                **{name: batch[name] for name in ("input_ids", "attention_mask")},
                max_new_tokens=4,
                do_sample=True,
                top_k=0,
                eos_token_id=NEWLINE,
            )
        turns = tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], True)
        going = []
        for game, turn in zip(games, turns, strict=True):
            _, episode, said = game
            text = turn.partition("\n")[0] + "\n"
            seen = episode.observe(Action(text=text, token_ids=()))
            said += [text, f"{seen.text}\n"]
            won += seen.success is True
            if not seen.done:
                going.append(game)
        games = going
    assert won / len(prompts) == pytest.approx(0.45, abs=0.06)
