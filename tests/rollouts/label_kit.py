"""Chains whose continuations are coins, for the tests of the labellers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rlstep.interfaces import Labeller
from rlstep.rollouts.requests import group_of, prompt_request
from rlstep.testing.roles import FakeGenerator, FakeScorer, Write, fake_completion, fake_context
from rlstep.testing.small import small_prompt
from rlstep.types import Rollout, Sampling, StepScores

RIGHT, WRONG = "#10", "#11"

Rate = Callable[[int], float]
"""(steps of the prefix) -> success rate of its continuations."""


def chain(name: str, steps: int, answer: str = WRONG, max_tokens: int = 256) -> Rollout:
    """A rollout of prompt `name`: `steps` - 1 lines that are its own, and the answer line."""
    prompt = small_prompt(name, text=f"{name}\n", answer="10")
    context = fake_context(FakeGenerator(lambda *_: ""), FakeScorer())
    request = prompt_request(prompt, 1, Sampling(max_tokens=max_tokens), context)
    text = "".join(f"{name}{i}\n" for i in range(steps - 1)) + answer
    (rollout,) = group_of(prompt, request, (fake_completion(text, max_tokens),), context).rollouts
    return rollout.with_scores(outcome=FakeScorer().verifier.verify(text, prompt.answer))


def coins(rate: Rate) -> Write:
    """Continuations that are right at the prefix's rate: draw i of a prefix by its own seed."""

    def write(prefix: str, child: int, seed: int) -> str:
        done = prefix.count("\n") - 1  # the prompt's own line
        return RIGHT if np.random.default_rng(seed + child).random() < rate(done) else WRONG

    return write


def wrong_from(error: int) -> Rate:
    """Every continuation right before the first wrong step, and none from it on."""
    return lambda steps: float(steps <= error)


async def label(
    labeller: Labeller, rollouts: Sequence[Rollout], write: Write | FakeGenerator, **scorer: object
) -> tuple[list[StepScores], FakeGenerator]:
    """The scores, in the order of the rollouts, and who was asked for them."""
    generator = write if isinstance(write, FakeGenerator) else FakeGenerator(write)
    made = await labeller.label(rollouts, fake_context(generator, FakeScorer(**scorer)))  # type: ignore[arg-type]
    assert [r.rollout_id for r in made] == [r.rollout_id for r in rollouts]
    scores = [rollout.step_scores("monte_carlo") for rollout in made]
    return [each for each in scores if each is not None], generator


def counts(scores: StepScores) -> list[list[int]]:
    """[n, k, truncated] by step."""
    assert scores.n is not None and scores.k is not None and scores.truncated is not None
    return [scores.n.tolist(), scores.k.tolist(), scores.truncated.tolist()]
