from __future__ import annotations

import pytest
from hypothesis import given

from rlstep.advantages.group import GroupAdvantages
from rlstep.advantages.process import ProcessAdvantages
from rlstep.pairs.outcome import OutcomePairs
from rlstep.tensors.labels import CorrectOnly
from rlstep.types import AdvantageSamples, Failure, Group, LabelSamples
from rlstep.uncertainty.down_weighted import DownWeighted
from tests.builders import make_group, make_rollout, make_step_scores
from tests.test_sample_laws import few, groups, same


def group() -> Group:
    """Outcomes 1 and 0. k = 3 and sigma 1, 1/3: weights 1/4 and 1 / (1 + 1/3) = 3/4."""
    sigma = make_step_scores([0.5, 0.5], [1.0, 1 / 3])
    return make_group(
        make_rollout("a", [[11, 12], [13]], outcome=1.0, scores={"prm": sigma}),
        make_rollout("b", [[14], [15]], outcome=0.0, scores={"prm": sigma}),
    )


def test_advantages_worked_by_hand():
    # Without a std, outcomes less their mean: 1/2 and -1/2. The prompt has two tokens.
    inner = GroupAdvantages(std="none")
    samples = DownWeighted(of=inner, source="prm", k=3.0).samples([group()])
    assert isinstance(samples, AdvantageSamples)
    assert [column.tolist() for column in samples.advantages] == [
        pytest.approx([0, 0, 0.125, 0.125, 0.375]),
        pytest.approx([0, 0, -0.125, -0.375]),
    ]


def test_label_weights_worked_by_hand():
    samples = DownWeighted(of=CorrectOnly(), source="prm", k=3.0).samples([group()])
    assert isinstance(samples, LabelSamples)
    [weights], [targets] = samples.weights, samples.targets
    assert weights.tolist() == pytest.approx([0, 0, 0.25, 0.25, 0.75])
    assert targets.tolist() == [0, 0, 1, 1, 1]


def test_an_unknown_uncertainty_is_not_trained_and_in_no_baseline():
    a, b = group().rollouts
    failed = b.with_scores(prm=Failure(reason="timeout"))
    samples = DownWeighted(of=GroupAdvantages(), source="prm").samples([make_group(a, failed)])
    assert samples.sequences == ()


@few
@given(one=groups("p"), other=groups("q"))
def test_k_of_0_changes_nothing(one: Group, other: Group):
    inner = ProcessAdvantages()
    wrapped = DownWeighted(of=inner, source="prm", k=0.0)
    same(wrapped.samples([one, other]), inner.samples([one, other]))


@few
@given(group=groups())
def test_signs_stay_and_nothing_grows(group: Group):
    inner = ProcessAdvantages()
    plain, weighted = inner.samples([group]), DownWeighted(of=inner, source="prm").samples([group])
    assert isinstance(weighted, AdvantageSamples)
    for before, after in zip(plain.advantages, weighted.advantages, strict=True):
        assert ((after * before >= 0.0) & (abs(after) <= abs(before) + 1e-6)).all()


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"samples\.k is -1; the smallest valid value is 0"):
        DownWeighted(k=-1)
    with pytest.raises(ValueError, match=r"OutcomePairs makes PairSamples, which carry no weight"):
        DownWeighted(of=OutcomePairs())
