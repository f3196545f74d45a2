"""Laws of tokens that were not sampled: what was observed between steps changes what is seen of
the world, and nothing of what is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.interfaces import SampleBuilder
from rlstep.tensors.sequences import last_tokens, sequence
from rlstep.types import (
    AdvantageSamples,
    Completion,
    Group,
    LabelSamples,
    Observed,
    PairSamples,
    Rollout,
    Samples,
    Score,
    Sequence,
    Step,
    TokenScores,
    VersionSpan,
)
from tests.builders import make_rollout
from tests.test_sample_laws import every_builder, few, groups


def spread(column: np.ndarray, at: np.ndarray, length: int, fill: np.ndarray) -> np.ndarray:
    out = fill[:length].astype(column.dtype)
    out[at] = column
    return out


def marked(group: Group) -> Group:
    """The same with another last token in every step: whoever has sampled the same has taken the
    same steps, as under a splitter. Else they would see different things after the same tokens."""

    def one(rollout: Rollout) -> Rollout:
        ids = rollout.completion.token_ids.copy()
        ids[[step.end - 1 for step in rollout.steps]] += 3
        return replace(rollout, completion=replace(rollout.completion, token_ids=ids))

    return replace(group, rollouts=tuple(map(one, group.rollouts)))


def observing(rollout: Rollout, seed: int) -> Rollout:
    """The same steps with something observed after some of them: as the history says, so that
    rollouts that have done the same see the same. Scores of observed tokens are garbage."""
    old, garbage = rollout.completion, np.random.default_rng(seed).normal(size=4096)
    ids: list[int] = []
    at: list[int] = []
    steps: list[Step] = []
    observed: list[Observed] = []
    for k in range(-1, len(rollout.steps)):
        start = len(ids)
        if k >= 0:
            step = rollout.steps[k]
            ids += old.token_ids[step.start : step.end].tolist()
            at += range(start, len(ids))
            steps.append(Step(start=start, end=len(ids)))
        history = rollout.prefix_ids(k + 1).tobytes() + seed.to_bytes(8, "little")
        number = hashlib.blake2b(history, digest_size=2).digest()
        if seen := [30 + (number[1] + j) % 5 for j in range(number[0] % 4)]:
            observed.append(Observed(start=len(ids), end=len(ids) + len(seen)))
            ids += seen
    places = np.array([*at, len(ids)])

    def score(given: Score) -> Score:
        if not isinstance(given, TokenScores):
            return given
        return replace(given, values=spread(given.values, np.array(at), len(ids), garbage))

    versions = tuple(
        VersionSpan(version=0, start=step.start, end=step.end) for step in steps if old.versions
    )
    return replace(
        rollout,
        completion=Completion(
            token_ids=np.array(ids, dtype=np.int32),
            logprobs=spread(old.logprobs, np.array(at), len(ids), np.zeros(len(ids))),
            text="".join(f"{i} " for i in ids),
            ends=np.cumsum([len(f"{i} ") for i in ids]).astype(np.int32),
            finish_reason=old.finish_reason,
            stop_reason=old.stop_reason,
            versions=versions,
            observed=tuple(observed),
        ),
        steps=tuple(steps),
        inherited=0 if rollout.parent is None else int(places[rollout.inherited]),
        scores={name: score(given) for name, given in rollout.scores.items()},
    )


def own(s: Sequence, column: np.ndarray | None = None) -> tuple[Any, ...]:
    """What is left of a sequence without what was observed: tokens from 30 on."""
    kept = s.token_ids < 30
    columns = [s.token_ids, s.loss_mask, s.step_index, s.rollout_logprobs, column]
    return tuple(c[kept].tolist() for c in columns if c is not None)


def contents(samples: Samples) -> Mapping[str, Any] | list[Any]:
    if isinstance(samples, PairSamples):
        sides = [own(s) for s in samples.sequences]
        return [
            (sides[p.chosen], sides[p.rejected], p.chosen_score, p.rejected_score)
            for p in samples.pairs
        ]
    columns = samples.advantages if isinstance(samples, AdvantageSamples) else samples.targets
    return [own(s, c) for s, c in zip(samples.sequences, columns, strict=True)]


@every_builder
@few
@given(one=groups("p"), other=groups("q"), seed=st.integers(0, 2**32 - 1))
def test_what_was_observed_changes_nothing_that_is_trained(
    builder: SampleBuilder, one: Group, other: Group, seed: int
):
    plain = [marked(one), marked(other)]
    seen = [
        replace(group, rollouts=tuple(observing(r, seed) for r in group.rollouts))
        for group in plain
    ]
    without, with_observed = builder.samples(plain), builder.samples(seen)
    assert contents(with_observed) == contents(without)
    for s in with_observed.sequences:
        assert not s.loss_mask[s.token_ids >= 30].any()
        assert (s.step_index[s.token_ids >= 30] == -1).all()
    if isinstance(with_observed, LabelSamples):
        for s, weights in zip(with_observed.sequences, with_observed.weights, strict=True):
            assert not weights[s.token_ids >= 30].any()


@few
@given(group=groups(), seed=st.integers(0, 2**32 - 1))
def test_steps_and_observed_spans_partition_the_completion(group: Group, seed: int):
    for plain in group.rollouts:
        rollout = observing(plain, seed)
        sampled = rollout.completion.sampled
        assert sampled.sum() == rollout.completion.length == len(plain.completion.token_ids)
        covered = np.concatenate(
            [
                np.arange(span.start, span.end)
                for span in (*rollout.steps, *rollout.completion.observed)
            ]
        )
        assert sorted(covered.tolist()) == list(range(len(rollout.completion.token_ids)))
        texts = [rollout.step_text(k) for k in range(len(rollout.steps))]
        seen = [rollout.observation_text(k) for k in range(-1, len(rollout.steps))]
        mixed = seen[0] + "".join(t + s for t, s in zip(texts, seen[1:], strict=True))
        assert mixed == rollout.completion.text
        assert texts == [plain.step_text(k) for k in range(len(plain.steps))]


def test_a_conversation_worked_by_hand():
    # Prompt 1 2; a forced 31, step 11 12, observed 32 33, step 13, observed 34 at its end.
    rollout = make_rollout("r", [[11, 12], [13]], observed={-1: [31], 0: [32, 33], 1: [34]})
    assert rollout.completion.token_ids.tolist() == [31, 11, 12, 32, 33, 13, 34]
    assert rollout.completion.sampled.tolist() == [False, True, True, False, False, True, False]
    assert [rollout.before(k) for k in range(3)] == [1, 5, 7]
    assert rollout.prefix_ids(0).tolist() == [1, 2, 31]
    assert rollout.prefix_ids(1).tolist() == [1, 2, 31, 11, 12, 32, 33]
    assert rollout.prefix_ids(2).tolist() == [1, 2, 31, 11, 12, 32, 33, 13, 34]
    assert last_tokens(rollout).tolist() == [4, 7]  # of the sequence, its prompt included
    assert rollout.observation_text(0) == "32 33 " and rollout.step_text(1) == "13 "
    whole = sequence(rollout)
    assert whole.loss_mask.tolist() == [False] * 3 + [True] * 2 + [False] * 2 + [True, False]
    assert whole.step_index.tolist() == [-1, -1, -1, 0, 0, -1, -1, 1, -1]
    assert whole.rollout_logprobs[5:7].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("spans", [((0, 2),), ((1, 2),), ((2, 4),), ((2, 2), (2, 3))])
def test_spans_that_are_no_partition_are_refused(spans: tuple[tuple[int, int], ...]):
    # Steps [0, 2) and [3, 4): only the span [2, 3) fits.
    rollout = make_rollout("r", [[11, 12], [13]], observed={0: [31]})
    observed = tuple(Observed(start=a, end=b) for a, b in spans)
    with pytest.raises(AssertionError, match=r"r: (steps and what|an empty span)"):
        replace(rollout, completion=replace(rollout.completion, observed=observed))
