from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from hypothesis import given

from rlstep.advantages.process import ProcessAdvantages
from rlstep.interfaces import SampleBuilder
from rlstep.pairs.outcome import OutcomePairs
from rlstep.types import Failure, Group, LabelSamples, PairSamples
from rlstep.uncertainty.dropped import Dropped
from tests.builders import make_group, make_rollout, make_step_scores
from tests.test_sample_laws import few, groups, same


@dataclass(frozen=True, kw_only=True)
class Spy(SampleBuilder):
    """Keeps what it is handed."""

    makes: ClassVar[type] = LabelSamples
    sources: ClassVar[frozenset[str]] = frozenset({"prm"})
    seen: list[Group] = field(default_factory=list)

    def samples(self, groups) -> LabelSamples:
        self.seen.extend(groups)
        return LabelSamples(sequences=(), targets=(), weights=())


def group() -> Group:
    sure, unsure = make_step_scores([0.9, 0.8], 0.25), make_step_scores([0.4, 0.5], [0.1, 0.5])
    return make_group(
        make_rollout("sure", [[11], [12]], outcome=1.0, scores={"prm": sure}),
        make_rollout("unsure", [[13], [14]], outcome=0.0, scores={"prm": unsure}),
    )


def test_one_unsure_step_fails_the_rollouts_scores(caplog: pytest.LogCaptureFixture):
    spy = Spy()
    Dropped(of=spy, source="prm", most=0.3).samples([group()])
    assert caplog.messages == ["too uncertain scores of 'prm': 1 of 2"]
    sure, unsure = spy.seen[0].rollouts
    assert sure.step_scores("prm") is not None
    failure = unsure.scores["prm"]
    assert failure == Failure(reason="uncertain", detail="prm: 0.5 at step 1")
    assert unsure.outcome is not None  # only the one source fails


@pytest.mark.parametrize("most", [0.1, 0.2, 0.3, 0.7])
def test_a_step_at_the_limit_is_kept_though_its_logarithm_is_rounded(most: float):
    spy = Spy()
    at_it = make_rollout("a", [[11]], scores={"prm": make_step_scores([0.5], most)})
    Dropped(of=spy, source="prm", most=most).samples([make_group(at_it)])
    assert spy.seen[0].rollouts[0].step_scores("prm") is not None


def test_what_is_dropped_stands_in_no_pair():
    builder = Dropped(of=OutcomePairs(step_source="prm"), source="prm", most=0.3)
    samples = builder.samples([group()])
    assert isinstance(samples, PairSamples)
    assert (samples.pairs, samples.groups, samples.groups_without_signal) == ((), 0, 1)
    assert len(Dropped(of=builder.of, source="prm", most=0.6).samples([group()]).sequences) == 2


@few
@given(group=groups())
def test_a_threshold_of_0_keeps_everything(group: Group):
    inner = ProcessAdvantages()
    same(Dropped(of=inner, source="prm").samples([group]), inner.samples([group]))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"samples\.most is -0.1; the smallest valid value is 0"):
        Dropped(most=-0.1)
    with pytest.raises(ValueError, match=r"source is 'prm', but OutcomePairs inside .*'outcome'"):
        Dropped(of=OutcomePairs(), source="prm")
