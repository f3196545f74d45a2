"""Makes a policy for self-play (`rlstep/self_play`): it answers, judges and refines.

rlstep sft recipes/constraints_sft.py          in <run>/export; the shipped one is made so

Three formats, one model: answers of mixed quality, judgments that go through what is
asked for, and refinements of wrong answers. All of it is made by the exact check.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, ClassVar

import numpy as np
from constraints_base import JUDGE, LONGEST_PROBLEM, REFINE, TASK
from constraints_worked import altered, careful, careless, judgment, refined
from sft_base import RandomLlama, drawn, made_policy

from rlstep.cli import run_recipe
from rlstep.fit_config import FitConfig
from rlstep.interfaces import Examples
from rlstep.scoring.judges.judgment_text import render
from rlstep.tasks.synthetic import solution_samples
from rlstep.types import LabelSamples, Prompt

UPDATES = 4000
Example = tuple[Prompt, list[str]]
"""A prompt, and what is written after it."""


@dataclass(frozen=True, kw_only=True)
class ThreeRoles(Examples):
    """Fresh answers, judgments and refinements for every batch.

    It begins with answers to the easiest problems alone: to say a word that stands in the prompt is
    learnt soonest there.
    """

    makes: ClassVar[type] = LabelSamples

    updates: int = UPDATES
    easy: int = 160
    """Answers of one update at the beginning."""
    beginning: int = 300
    """Updates."""
    answers: int = 32
    """Of one update."""
    judgments: int = 32
    """Of one update: of a right answer every other one."""
    refinements: int = 16
    """Of one update."""
    careless: float = 0.6
    """Probability that an answer forgets the last constraint."""
    failing: float = 0.25
    """Probability that a refinement is any edit at all."""
    problems: int = 9_216

    def batches(self, tokenizer: Any, seed: int) -> Iterator[LabelSamples]:
        task = replace(TASK, train=self.problems, evaluation=0)
        rng = Random(seed)
        easiest = replace(task, levels=(0,)).load(tokenizer, LONGEST_PROBLEM).train
        for chosen in drawn(easiest, self.easy, self.beginning):
            answers = [[self._answer(prompt, rng)] for prompt in chosen]
            yield solution_samples(chosen, answers, tokenizer)
        problems = task.load(tokenizer, LONGEST_PROBLEM).train
        batch = self.answers + self.judgments + self.refinements
        for chosen in drawn(problems, batch, self.updates - self.beginning):
            yield self._samples(chosen, tokenizer, rng)

    def held_out(self, tokenizer: Any) -> LabelSamples:
        task = replace(TASK, train=1, evaluation=240)
        problems = task.load(tokenizer, LONGEST_PROBLEM).evaluation
        return self._samples(problems, tokenizer, Random(0))

    def _samples(self, prompts: Sequence[Prompt], tokenizer: Any, rng: Random) -> LabelSamples:
        """Of the prompts the shares of the three roles."""
        whole = self.answers + self.judgments + self.refinements
        first = len(prompts) * self.answers // whole
        second = first + len(prompts) * self.judgments // whole
        made = [(prompt, [self._answer(prompt, rng)]) for prompt in prompts[:first]]
        made += [self._judged(p, i, tokenizer, rng) for i, p in enumerate(prompts[first:second])]
        made += [self._refined(prompt, tokenizer, rng) for prompt in prompts[second:]]
        written = [[text for text in texts if text] for _, texts in made]
        return solution_samples([prompt for prompt, _ in made], written, tokenizer)

    def _answer(self, prompt: Prompt, rng: Random) -> str:
        constraints = prompt.meta["constraints"]
        if rng.random() < self.careless:
            return careless(constraints, prompt.answer, len(constraints) - 1, rng)
        return careful(constraints, prompt.answer, rng)

    def _wrong(self, prompt: Prompt, rng: Random) -> str:
        """Mostly the policy's own kind of error."""
        constraints = prompt.meta["constraints"]
        kind = rng.random()
        if kind < 0.25:
            return altered(careful(constraints, prompt.answer, rng), rng)
        forgotten = len(constraints) - 1 if kind < 0.6 else rng.randrange(len(constraints))
        return careless(constraints, prompt.answer, forgotten, rng)

    def _judged(self, prompt: Prompt, place: int, tokenizer: Any, rng: Random) -> Example:
        constraints = prompt.meta["constraints"]
        right = careful(constraints, prompt.answer, rng)
        answer = right if place % 2 else self._wrong(prompt, rng)
        texts = {"problem": prompt.meta["problem"], "solution": answer}
        return asked(prompt, render(JUDGE, texts), tokenizer), judgment(constraints, answer)

    def _refined(self, prompt: Prompt, tokenizer: Any, rng: Random) -> Example:
        constraints = prompt.meta["constraints"]
        answer = self._wrong(prompt, rng)
        said = "".join(judgment(constraints, answer))
        texts = {"problem": prompt.meta["problem"], "solution": answer, "judgment": said}
        better = refined(constraints, answer, prompt.answer, rng)
        if rng.random() < self.failing:
            better = altered(answer, rng)
        return asked(prompt, render(REFINE, texts), tokenizer), [better]


def asked(prompt: Prompt, text: str, tokenizer: Any) -> Prompt:
    """The same problem under another question."""
    ids = np.array(tokenizer.encode(text, add_special_tokens=False), np.int32)
    return replace(prompt, token_ids=ids, text=text)


def config() -> FitConfig:
    start = RandomLlama(
        tokenizer="rlstep.tasks.constraints.constraints_tokenizer",
        intermediate_size=256,
        layers=4,
    )
    return made_policy("constraints-sft", ThreeRoles(), start, UPDATES, learning_rate=2e-3)


if __name__ == "__main__":
    raise SystemExit(run_recipe(config))
