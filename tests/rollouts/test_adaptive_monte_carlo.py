"""Every step labelled, with as many draws as the posterior asks for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rlstep.pairs.first_error import first_error
from rlstep.rollouts.adaptive_monte_carlo import AdaptiveMonteCarlo
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.rollouts.stopping import BetaStopping
from rlstep.tensors.labels import step_labels
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from tests.rollouts.label_kit import RIGHT, WRONG, chain, coins, counts, label, wrong_from


async def test_clear_steps_take_half_of_the_draws():
    (scores,), generator = await label(AdaptiveMonteCarlo(), [chain("a", 6)], coins(wrong_from(3)))
    # Batches of 2: after 2 alike the side has 1 - 0.5^3 = 0.875, after 4 1 - 0.5^5 = 0.97 > 0.9.
    assert counts(scores) == [[4, 4, 4, 4, 4, 1], [4, 4, 4, 0, 0, 0], [0] * 6]
    assert first_error(scores, 0.5) == 3
    assert sum(r.n for r in generator.asked) == 5 * 4


async def test_an_even_step_takes_all():
    def write(prefix: str, child: int, seed: int) -> str:
        return RIGHT if child % 2 else WRONG

    (scores,), _ = await label(AdaptiveMonteCarlo(), [chain("a", 2)], write)
    assert counts(scores) == [[8, 1], [4, 0], [0, 0]]


async def test_its_draws_are_the_first_of_the_exhaustive_ones():
    """Wherever it went to the limit, its counts are those of a fixed number of continuations."""
    rollouts = [chain(name, 9) for name in "abcd"]
    write = coins(lambda steps: 0.9 - 0.1 * steps)
    adaptive, asked = await label(AdaptiveMonteCarlo(), rollouts, write)
    every, _ = await label(MonteCarlo(continuations=8, own_outcome=False), rollouts, write)
    full = 0
    for some, each in zip(adaptive, every, strict=True):
        for step, drawn in enumerate(counts(some)[0][:-1]):
            assert 2 <= drawn <= 8 and counts(some)[1][step] <= counts(each)[1][step]
            if drawn == 8:
                assert counts(some)[1][step] == counts(each)[1][step]
                full += 1
    assert full > 0 and sum(r.n for r in asked.asked) < 4 * 8 * 8


async def test_where_it_must_be_certain_it_decides_as_all_draws_do():
    rollouts = [chain(name, 9) for name in "abcdefgh"]
    write = coins(lambda steps: 0.9 - 0.1 * steps)
    certain = AdaptiveMonteCarlo(stopping=BetaStopping(confidence=1.0, batch=1))
    adaptive, asked = await label(certain, rollouts, write)
    every, _ = await label(MonteCarlo(continuations=8, own_outcome=False), rollouts, write)
    for some, each in zip(adaptive, every, strict=True):
        assert np.array_equal(some.values[:-1] < 0.5, each.values[:-1] < 0.5)
    assert sum(r.n for r in asked.asked) < 8 * 8 * 8


async def test_the_order_of_rollouts_changes_nothing():
    rollouts = [chain(name, 6) for name in "abcd"]
    write = coins(lambda steps: 0.9 - 0.1 * steps)
    forward, _ = await label(AdaptiveMonteCarlo(), rollouts, write)
    backward, _ = await label(AdaptiveMonteCarlo(), rollouts[::-1], write)
    assert [counts(s) for s in forward] == [counts(s) for s in backward[::-1]]


async def test_without_a_verdict_nothing_is_asked_and_nothing_is_learnt():
    lost = replace(chain("a", 4), scores={})
    generator = FakeGenerator(lambda *_: RIGHT)
    made = await AdaptiveMonteCarlo().label([lost], fake_context(generator, FakeScorer()))
    assert generator.asked == [] and step_labels(made).sequences == ()


async def test_its_labels_train_a_prm_by_their_counts():
    context = fake_context(FakeGenerator(coins(wrong_from(2))), FakeScorer())
    made = await AdaptiveMonteCarlo().label([chain("a", 4)], context)
    labels = step_labels(made)
    (weights,), (targets,) = labels.weights, labels.targets
    assert weights[weights > 0].tolist() == [4, 4, 4, 1]
    assert targets[weights > 0].tolist() == [1, 1, 0, 0]
