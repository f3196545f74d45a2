"""Evolves instructions, measures them by IFD and IC-IFD, and keeps the hardest: the mechanics.

    python recipes/studies/instruction_evolution.py [--policy FOLDER] [--json FILE]

No model on this machine can evolve an instruction: the policy that ships has a vocabulary of 64
tokens. So a stand-in answers in the evolver's place, which adds one more constraint that can be met
with the others (the way `constrain`); the questions, the reading of answers, duplicates, ranks and
the measured logprobs of the policy are the real ones. With a model that can, `Evolution(model=
Endpoint(...))` is all that changes.
"""

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
from constraints_base import LONGEST_PROBLEM, POLICY
from constraints_worked import careful

from rlstep.instructions.difficulty import (
    Difficulty,
    Example,
    Logprobs,
    begin_token,
    difficulties,
    hardest,
)
from rlstep.instructions.duplicates import Duplicates
from rlstep.instructions.evolution import Evolution
from rlstep.instructions.ways import CONSTRAIN
from rlstep.interfaces import Ask, AskContext, JudgeModel, Question
from rlstep.rollouts.requests import request_seed
from rlstep.scoring.answers.constraints_met import violated
from rlstep.tasks.constraints import BETWEEN, LONGEST, WORDS, Constraints
from rlstep.testing.roles import FakeGenerator
from rlstep.types import Failure


@dataclass(frozen=True, kw_only=True)
class OneMore(JudgeModel):
    """Stands in for a model that evolves: one more constraint, which an answer still meets."""

    @asynccontextmanager
    async def open(self, context: AskContext) -> AsyncIterator[Ask]:
        async def ask(questions: Sequence[Question]) -> list[str | Failure]:
            return [self._answer(q, Random(request_seed(context.seed, q.question_id)))
                    for q in questions]  # fmt: skip

        yield ask

    def _answer(self, question: Question, rng: Random) -> str | Failure:
        [text] = re.findall(r"<instruction-\w+>\n(.*)\n</instruction", question.text)
        constraints = text.split(BETWEEN)
        for _ in range(32):
            more = [*constraints, _any_constraint(rng)]
            if more[-1] not in constraints and answered(more, rng):
                return BETWEEN.join(more)
        return Failure(reason="nothing_to_add")


def _any_constraint(rng: Random) -> str:
    first, second = rng.sample(WORDS, 2)
    kinds = [f"with {first}", f"without {first}", f"starts with {first}", f"ends with {first}"]
    kinds += [f"{first} before {second}", f"exactly {rng.randint(2, LONGEST)} words"]
    return rng.choice([*kinds, "no word twice", "separated by commas", "one word a line"])


def answered(constraints: Sequence[str], rng: Random) -> str:
    """An answer that meets the constraints, '' where none is found."""
    answer = careful(constraints, "", rng)
    return answer if answer and not violated(constraints, answer) else ""


@dataclass(frozen=True, kw_only=True)
class Study:
    policy: str = POLICY
    """Whose logprobs measure."""
    instructions: int = 64
    """To begin with: the easiest problems of the task."""
    rounds: int = 3
    share: float = 0.3
    """Of all instructions, which is kept."""
    seed: int = 0
    json: str = ""
    """Where to write the table as one object."""


def evolved(study: Study, tokenizer: Any) -> tuple[list[list[str]], Counter[str]]:
    """Instructions by round, 0 being the first ones, and how many were left out by reason."""
    task = Constraints(levels=(0,), train=study.instructions, evaluation=0, seed=study.seed)
    first = [prompt.meta["problem"] for prompt in task.load(tokenizer, LONGEST_PROBLEM).train]
    # Of so few words instructions are alike soon: only those with the same runs are duplicates.
    evolution = Evolution(
        model=OneMore(), ways=(CONSTRAIN,), rounds=study.rounds, duplicates=Duplicates(share=1.0)
    )
    nobody = FakeGenerator(lambda prefix, child, seed: "")
    context = AskContext(generator=nobody, tokenizer=tokenizer, seed=study.seed)
    made, left_out = asyncio.run(evolution.evolve(first, context))
    rounds = range(1, study.rounds + 1)
    return [first, *([e.text for e in made if e.round == n] for n in rounds)], left_out


def example(text: str, answer: str, tokenizer: Any) -> Example:
    """The policy is asked behind nothing but a newline: its template."""

    def ids(part: str) -> np.ndarray:
        return np.array(tokenizer.encode(part, add_special_tokens=False), np.int32)

    return Example(prompt=ids(f"{text}\n"), question=ids(text), answer=ids(answer))


def table(study: Study, tokenizer: Any, logprobs: Logprobs) -> dict[str, Any]:
    """By round: instructions, means of L(Q), L(A|Q), IFD and IC-IFD, and the share of the round
    that either keeps."""
    rounds, left_out = evolved(study, tokenizer)
    numbers = np.repeat(range(len(rounds)), list(map(len, rounds)))
    rng = Random(study.seed)
    texts = [text for texts in rounds for text in texts]
    examples = [example(t, answered(t.split(BETWEEN), rng), tokenizer) for t in texts]
    found = difficulties(examples, logprobs, begin_token(tokenizer))
    kept = {
        name: set(hardest([f if isinstance(f, Failure) else getattr(f, name) for f in found],
                          study.share))
        for name in ("ifd", "ic_ifd")
    }  # fmt: skip
    rows = []
    for number in range(len(rounds)):
        places = np.flatnonzero(numbers == number).tolist()
        measured = [f for i in places if isinstance(f := found[i], Difficulty)]
        row: dict[str, Any] = {"round": number, "instructions": len(places)}
        row["failed"] = len(places) - len(measured)
        for name in ("question", "conditional", "ifd", "ic_ifd"):
            row[name] = float(np.mean([getattr(m, name) for m in measured] or [np.nan]))
        row |= {f"kept_{name}": len(kept[name] & set(places)) / max(len(places), 1)
                for name in kept}  # fmt: skip
        rows.append(row)
    return {"rounds": rows, "left_out": dict(left_out)}


def show(found: dict[str, Any], share: float) -> None:
    print(
        f"{'round':>5} {'instructions':>12} {'L(Q)':>6} {'L(A|Q)':>7} {'IFD':>6} {'IC-IFD':>7}"
        f" {'kept by IFD':>12} {'by IC-IFD':>10}   (of all {share:.0%})"
    )
    for row in found["rounds"]:
        print(
            f"{row['round']:5} {row['instructions']:12} {row['question']:6.2f}"
            f" {row['conditional']:7.2f} {row['ifd']:6.3f} {row['ic_ifd']:7.3f}"
            f" {row['kept_ifd']:12.0%} {row['kept_ic_ifd']:10.0%}"
        )
    print(f"left out: {found['left_out'] or 'none'}")


def main(study: Study) -> None:
    from transformers import AutoTokenizer

    from rlstep.instructions.model_logprobs import ModelLogprobs

    tokenizer = AutoTokenizer.from_pretrained(study.policy)
    found = table(study, tokenizer, ModelLogprobs(study.policy))
    show(found, study.share)
    if study.json:
        Path(study.json).write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Study))
