from __future__ import annotations

import pytest
from hypothesis import given

from rlstep.advantages.process import ProcessAdvantages
from rlstep.pairs.first_error import FirstErrorPairs
from rlstep.pairs.refined import RefinedPairs
from rlstep.pairs.win_rate import WinRatePairs
from rlstep.types import Failure, Group, PairSamples, Rollout
from rlstep.uncertainty.certain_pairs import CertainPairs
from tests.builders import make_counts, make_group, make_prompt, make_rollout, make_step_scores
from tests.test_sample_laws import few, groups, same

REFINED = RefinedPairs(source="prm")


def refined(sigma_before: float, sigma_after: float, prompt_id: str = "p") -> list[Rollout]:
    """A rollout of steps scored 0.75 and 0.25, and a branch with another second step, 0.75."""
    before = make_step_scores([0.75, 0.25], [9.0, sigma_before])
    after = make_step_scores([0.75, 0.75], [9.0, sigma_after])
    prompt = make_prompt(prompt_id)
    return [
        make_rollout(f"{prompt_id}[0]", [[11], [12]], scores={"prm": before}, prompt=prompt),
        make_rollout(
            f"{prompt_id}[0]/fix",
            [[11], [13]],
            scores={"prm": after},
            prompt=prompt,
            parent=f"{prompt_id}[0]",
            inherited=1,
        ),
    ]


def built(k: float, *groups: Group) -> PairSamples:
    samples = CertainPairs(of=REFINED, source="prm", k=k).samples(groups)
    assert isinstance(samples, PairSamples)
    return samples


@pytest.mark.parametrize(("k", "pairs"), [(0.0, 1), (0.99, 1), (1.01, 0)])
def test_the_margin_against_both_sides_worked_by_hand(k: float, pairs: int):
    # 0.75 - 0.25 = 0.5 against sqrt(0.3^2 + 0.4^2) = 0.5. The shared first step, where nobody is
    # sure (9), is trained on neither side and does not count.
    samples = built(k, make_group(*refined(0.3, 0.4)))
    assert len(samples.pairs) == pairs == samples.groups == 1 - samples.groups_without_signal


@pytest.mark.parametrize("sigma", [(0.3, 0.4), (0.4, 0.3), (0.5, 1e-9)])
def test_a_margin_of_just_k_is_not_above_it(sigma: tuple[float, float]):
    assert built(1.0, make_group(*refined(*sigma))).pairs == ()


def test_what_is_left_keeps_its_sides():
    both = make_group(*refined(0.9, 0.9)), make_group(*refined(0.1, 0.1, "q"))
    samples = built(1.0, *both)
    [pair] = samples.pairs
    assert len(samples.sequences) == 2 and (samples.groups, samples.groups_without_signal) == (1, 1)
    assert samples.sequences[pair.chosen].token_ids[-1] == 13
    assert samples.sequences[pair.rejected].token_ids[-1] == 12
    assert {s.prompt_id for s in samples.sequences} == {"q"}


def test_a_side_of_unknown_uncertainty_stands_in_no_pair():
    rollouts = refined(0.1, 0.1)
    failed = [r.with_scores(urm=Failure(reason="timeout")) for r in rollouts]
    builder = CertainPairs(of=REFINED, source="urm", k=0.0)
    assert builder.samples([make_group(*failed)]).sequences == ()


def test_only_the_trained_steps_must_be_known():
    """Binary search and rectification label some steps, and some rollouts not at all."""
    wrong = make_rollout(
        "w",
        [[11], [12], [13]],
        outcome=0.0,
        scores={"monte_carlo": make_counts([0, 8, 1], [0, 0, 0])},
    )
    fixed = make_rollout("f", [[11], [22]], outcome=1.0, parent="w", inherited=1)
    inner = FirstErrorPairs(source="monte_carlo")
    [pair] = CertainPairs(of=inner, source="monte_carlo").samples([make_group(wrong, fixed)]).pairs
    assert pair.margin == 1.0
    # Beta(1, 9): sqrt(0.1 * 0.9 / 11) = 0.0905 for the wrong step, nothing for the other side.
    for k, pairs in ((11.0, 1), (11.1, 0)):
        samples = CertainPairs(of=inner, source="monte_carlo", k=k)
        assert len(samples.samples([make_group(wrong, fixed)]).pairs) == pairs


@few
@given(one=groups("p"), other=groups("q"))
def test_k_of_0_keeps_every_pair_with_a_known_uncertainty(one: Group, other: Group):
    inner = WinRatePairs(source="prm", which="all")
    wrapped = CertainPairs(of=inner, source="prm", k=0.0)
    same(wrapped.samples([one, other]), inner.samples([one, other]))


@few
@given(group=groups())
def test_more_k_keeps_fewer(group: Group):
    sizes = [
        len(CertainPairs(of=REFINED, source="prm", k=k).samples([group]).pairs)
        for k in (0.0, 0.5, 1.0, 4.0)
    ]
    assert sizes == sorted(sizes, reverse=True)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"samples\.k is -1; the smallest valid value is 0"):
        CertainPairs(k=-1)
    with pytest.raises(ValueError, match=r"ProcessAdvantages makes AdvantageSamples; CertainPairs"):
        CertainPairs(of=ProcessAdvantages())
