"""Laws of the sample builders (design section 8), as properties over every one of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.advantages.group import GroupAdvantages
from rlstep.advantages.process import ProcessAdvantages
from rlstep.interfaces import SampleBuilder
from rlstep.labels import CorrectOnly
from rlstep.pairs.best_worst import BestWorstPairs
from rlstep.pairs.first_error import FirstErrorPairs
from rlstep.pairs.longest_correct import LongestCorrectPairs
from rlstep.pairs.outcome import OutcomePairs
from rlstep.pairs.refined import RefinedPairs
from rlstep.pairs.sibling_steps import SiblingStepPairs
from rlstep.pairs.tree import TreePairs
from rlstep.pairs.win_rate import WinRatePairs
from rlstep.types import AdvantageSamples, Group, LabelSamples, PairSamples, Rollout, Samples
from tests.builders import make_group, make_rollout

few = settings(max_examples=15, deadline=None)

BUILDERS: list[SampleBuilder] = [
    OutcomePairs(),
    OutcomePairs(step_source="prm"),
    FirstErrorPairs(),
    GroupAdvantages(),
    GroupAdvantages(std="sample"),
    ProcessAdvantages(),
    ProcessAdvantages(std="none"),
    CorrectOnly(),
]
BUILDERS += [BestWorstPairs(), LongestCorrectPairs(), RefinedPairs(), SiblingStepPairs()]
BUILDERS += [TreePairs(), TreePairs(which="all", end="completion"), WinRatePairs()]
BUILDERS += [RefinedPairs(source="prm"), SiblingStepPairs(which="all", max_pairs=2)]
BUILDERS += [WinRatePairs(source="prm", which="all"), OutcomePairs(max_pairs=2)]
every_builder = pytest.mark.parametrize("builder", BUILDERS, ids=repr)


@st.composite
def groups(draw: st.DrawFn, steps: int = 3, failures: bool = True) -> Group:
    """Independent rollouts with outcomes and PRM scores in eighths, and branches of them."""
    outcomes = st.sampled_from([0.0, 1.0, None] if failures else [0.0, 1.0])
    rollouts: list[Rollout] = []
    for i in range(draw(st.integers(2, 5))):
        step_tokens = st.lists(st.integers(10, 12), min_size=1, max_size=2)
        made = draw(st.lists(step_tokens, min_size=1, max_size=steps))
        scores = [draw(st.integers(0, 8)) / 8 for _ in made]
        rollouts.append(make_rollout(f"{i}", made, outcome=draw(outcomes), scores={"prm": scores}))
    for parent in list(rollouts):
        cut = draw(st.integers(0, len(parent.steps) - 1))
        start = parent.steps[cut].start
        kept = parent.completion.token_ids[:start].tolist()
        spans = [kept[step.start : step.end] for step in parent.steps[:cut]]
        name, new = f"{parent.rollout_id}/fix", [draw(st.integers(20, 22))]
        branch = make_rollout(
            name,
            [*spans, new],
            outcome=draw(outcomes),
            scores={"prm": [draw(st.integers(0, 8)) / 8 for _ in range(cut + 1)]},
            parent=parent.rollout_id,
            inherited=start,
        )
        rollouts.append(branch)
    return make_group(*rollouts)


def contents(samples: Samples) -> set[tuple]:
    """What the samples say, whatever the order in which they say it."""
    ids = [s.sequence_id for s in samples.sequences]
    if isinstance(samples, PairSamples):
        return {(ids[p.chosen], ids[p.rejected], p.margin, p.shared_prefix) for p in samples.pairs}
    columns = samples.advantages if isinstance(samples, AdvantageSamples) else samples.weights
    return {
        (name, *np.round(column.astype(float), 5))
        for name, column in zip(ids, columns, strict=True)
    }


@every_builder
@few
@given(data=st.data())
def test_permuting_a_group_permutes_the_result(builder: SampleBuilder, data: st.DataObject):
    group = data.draw(groups())
    shuffled = replace(group, rollouts=tuple(data.draw(st.permutations(group.rollouts))))
    assert contents(builder.samples([group])) == contents(builder.samples([shuffled]))


@every_builder
@few
@given(group=groups())
def test_samples_are_whole(builder: SampleBuilder, group: Group):
    """Right kind, trained tokens in steps, every sequence used, advantages only where trained."""
    samples = builder.samples([group, group])
    assert isinstance(samples, builder.makes)
    for s in samples.sequences:
        assert (s.step_index[s.loss_mask] >= 0).all() and s.loss_mask.any()
        assert len(s.step_scores) == s.step_index.max() + 1
    if isinstance(samples, PairSamples):
        used = {side for p in samples.pairs for side in (p.chosen, p.rejected)}
        assert used == set(range(len(samples.sequences)))
        contents_seen = {(s.token_ids.tobytes(), s.loss_mask.tobytes()) for s in samples.sequences}
        assert len(contents_seen) == len(samples.sequences)
        for p in samples.pairs:
            assert p.chosen_score > p.rejected_score
            chosen, rejected = samples.sequences[p.chosen], samples.sequences[p.rejected]
            shared = p.shared_prefix
            assert chosen.token_ids[:shared].tolist() == rejected.token_ids[:shared].tolist()
    if isinstance(samples, AdvantageSamples):
        for s, column in zip(samples.sequences, samples.advantages, strict=True):
            assert (column[~s.loss_mask] == 0.0).all() and np.isfinite(column).all()
    if not isinstance(samples, LabelSamples):
        assert samples.groups + samples.groups_without_signal == 2


@every_builder
@few
@given(group=groups())
def test_a_failed_rollout_is_in_no_baseline_and_no_pair(builder: SampleBuilder, group: Group):
    failed = make_rollout("failed", [[11], [12]], outcome=None)
    more = replace(group, rollouts=(failed, *group.rollouts))
    assert contents(builder.samples([group])) == contents(builder.samples([more]))


@few
@given(group=groups(steps=1, failures=False))
def test_one_step_a_rollout_is_outcome_supervision(group: Group):
    flat = [r for r in group.rollouts if len(r.steps) == 1]
    scored = [
        make_rollout(
            r.rollout_id, [r.completion.token_ids.tolist()], outcome=o, scores={"prm": [o]}
        )
        for r in flat
        if r.outcome is not None
        for o in [r.outcome.value]
    ]
    by_outcome = GroupAdvantages().samples([make_group(*scored)])
    assert contents(ProcessAdvantages().samples([make_group(*scored)])) == contents(by_outcome)


@few
@given(group=groups(), shift=st.integers(-8, 8))
def test_a_constant_on_all_scores_of_a_group_changes_no_advantage(group: Group, shift: int):
    moved = []
    for rollout in group.rollouts:
        scores = rollout.step_scores("prm")
        assert scores is not None
        moved.append(rollout.with_scores(prm=replace(scores, values=scores.values + shift)))
    for std in ("population", "sample", "none"):
        builder = ProcessAdvantages(std=std)
        assert contents(builder.samples([group])) == contents(builder.samples([make_group(*moved)]))


@few
@given(group=groups())
def test_outcome_advantages_of_a_group_cancel(group: Group):
    samples = GroupAdvantages().samples([group])
    total = sum(
        float(column[s.loss_mask][0])
        for s, column in zip(samples.sequences, samples.advantages, strict=True)
    )
    assert total == pytest.approx(0.0, abs=1e-5)
