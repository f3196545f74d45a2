"""Laws of the sample builders (design section 8), as properties over every one of them.

Some hold for every builder; the others are declared by the builders they hold for
(`SampleBuilder.laws`).
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rlstep.advantages
import rlstep.pairs
import rlstep.tensors.labels
import rlstep.uncertainty
from rlstep.advantages.assemble import AdvantageBuilder
from rlstep.advantages.gae import Gae
from rlstep.advantages.group import GroupAdvantages
from rlstep.advantages.mixture import Mixture
from rlstep.advantages.pav import Pav
from rlstep.advantages.prime import Prime
from rlstep.advantages.process import ProcessAdvantages
from rlstep.advantages.pure import Pure
from rlstep.advantages.reinforce_pp import ReinforcePlusPlus
from rlstep.advantages.rloo import Rloo
from rlstep.advantages.teacher import TeacherAdvantages
from rlstep.advantages.vine import Vine
from rlstep.advantages.whitened import Whitened
from rlstep.interfaces import SampleBuilder
from rlstep.pairs.accepted import AcceptedPairs
from rlstep.pairs.outcome import OutcomePairs
from rlstep.pairs.refined import RefinedPairs
from rlstep.pairs.sibling_steps import SiblingStepPairs
from rlstep.pairs.tree import TreePairs
from rlstep.pairs.win_rate import WinRatePairs
from rlstep.tensors.labels import CorrectOnly
from rlstep.types import (
    AdvantageSamples,
    Failure,
    Group,
    LabelSamples,
    OutcomeScore,
    PairSamples,
    Rollout,
    RolloutScore,
    Samples,
    Score,
    StepScores,
)
from rlstep.uncertainty.certain_pairs import CertainPairs
from rlstep.uncertainty.down_weighted import DownWeighted
from rlstep.uncertainty.dropped import Dropped
from rlstep.uncertainty.ensemble import Ensemble
from rlstep.uncertainty.penalised import Penalised
from tests.builders import (
    make_counts,
    make_group,
    make_prompt,
    make_rollout,
    make_step_scores,
    make_token_scores,
)

# --- the members ---------------------------------------------------------------------------------

ROOMS = (rlstep.advantages, rlstep.pairs, rlstep.uncertainty)


def builder_classes() -> list[type[SampleBuilder]]:
    """Every builder of rlstep, so that a new file is covered without being named here."""
    for room in ROOMS:
        import_all(room)

    def below(parent: type[SampleBuilder]) -> Iterator[type[SampleBuilder]]:
        for child in parent.__subclasses__():
            yield child
            yield from below(child)

    found = {c for c in below(SampleBuilder) if c.__module__.startswith("rlstep.")}
    return sorted((c for c in found if not inspect.isabstract(c)), key=lambda c: c.__name__)


def import_all(room: ModuleType) -> None:
    for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
        importlib.import_module(module.name)


CLASSES = builder_classes()
BUILDERS: list[SampleBuilder] = [
    *(c() for c in CLASSES),
    OutcomePairs(step_source="prm"),
    GroupAdvantages(std="sample"),
    GroupAdvantages(std="leave_one_out"),
    GroupAdvantages(std="none"),
    GroupAdvantages(over="batch"),
    GroupAdvantages(without_signal="left_out"),
    ProcessAdvantages(without_signal="left_out"),
    Mixture(without_signal="left_out"),
    ProcessAdvantages(std="none"),
    ProcessAdvantages(source="monte_carlo", std="sample"),
    ReinforcePlusPlus(baseline="group"),
    Gae(level="step", lam=0.5),
    Gae(lam=1.0),
    Pav(prover_samples=1, alpha=0.5),
    Pure(baseline="return", temperature=1.0),
    Pure(baseline="token", outcome_coefficient=0.0),
    Prime(level="step", leave_one_out="code", gamma=0.9),
    Mixture(outcome=Rloo(), process=Vine(), process_coefficient=0.3),
    TeacherAdvantages(gamma=1.0),
    Mixture(process=TeacherAdvantages(), process_coefficient=0.3),
    Whitened(of=Vine()),
    OutcomePairs(max_pairs=2),
    TreePairs(which="all", end="completion"),
    RefinedPairs(source="prm"),
    AcceptedPairs(source="outcome"),
    AcceptedPairs(source="reward", above=0.25),
    SiblingStepPairs(which="all", max_pairs=2),
    WinRatePairs(source="prm", which="all"),
    OutcomePairs(source="reward", min_margin=0.25),
    GroupAdvantages(source="reward"),
    Rloo(source="reward"),
    ReinforcePlusPlus(source="reward"),
    Penalised(of=Pure(), source="prm", k=2.0),
    Penalised(of=RefinedPairs(source="prm"), source="prm"),
    Dropped(of=ProcessAdvantages(), source="prm", most=0.3),
    Dropped(of=OutcomePairs(step_source="monte_carlo"), most=0.2),
    DownWeighted(of=GroupAdvantages(), source="prm", k=3.0),
    DownWeighted(of=CorrectOnly(), source="prm"),
    CertainPairs(of=TreePairs(which="all"), k=0.5),
    CertainPairs(of=SiblingStepPairs(which="all"), source="prm", k=0.5),
    Ensemble(
        of=Penalised(of=ProcessAdvantages(source="ensemble"), source="ensemble"),
        disagreement="std",
    ),
    Ensemble(of=CertainPairs(of=WinRatePairs(source="ensemble", which="all"), source="ensemble")),
]
every_builder = pytest.mark.parametrize("builder", BUILDERS, ids=repr)
every_advantage = pytest.mark.parametrize(
    "builder", [b for b in BUILDERS if b.makes is AdvantageSamples], ids=repr
)
few = settings(max_examples=3 if settings().derandomize else 100)  # of hundreds of plug-ins

# --- random groups -------------------------------------------------------------------------------


def random_scores(random: np.random.Generator, steps: int, tokens: int) -> dict[str, Score]:
    """Of every source but the outcome. Monte Carlo may have left a step without a label."""
    n = random.choice([4, 4, 4, 2, 0], steps)
    return {
        "prm": make_step_scores(
            (random.integers(0, 9, steps) / 8).tolist(),
            random.uniform(0.01, 0.5, steps).tolist(),
        ),
        "monte_carlo": make_counts(n.tolist(), random.integers(0, n + 1).tolist()),
        "critic": make_token_scores((random.integers(0, 9, tokens) / 8).tolist()),
        "implicit": make_token_scores((random.integers(-8, 9, tokens) / 8).tolist()),
        "teacher": make_token_scores((random.integers(-8, 9, tokens) / 8).tolist()),
        "reward": RolloutScore(value=random.integers(-8, 9) / 8),
    }


@st.composite
def groups(
    draw: st.DrawFn,
    prompt_id: str = "p",
    steps: int = 3,
    step_tokens: int = 2,
    branches: bool = True,
) -> Group:
    """Independent rollouts, some without an outcome, and branches of them; numbers from a seed."""
    step_lengths = st.lists(st.integers(1, step_tokens), min_size=1, max_size=steps)
    shapes = draw(st.lists(step_lengths, min_size=2, max_size=5))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def rollout(name: str, made: list[list[int]], **fields: Any) -> Rollout:
        return make_rollout(
            name,
            made,
            outcome=(0.0, 1.0, None)[random.integers(3)],
            scores=random_scores(random, len(made), sum(map(len, made))),
            prompt=make_prompt(prompt_id),
            **fields,
        )

    rollouts = [
        rollout(f"{prompt_id}{i}", [random.integers(10, 13, n).tolist() for n in shape])
        for i, shape in enumerate(shapes)
    ]
    for parent in list(rollouts) if branches else []:
        cut = int(random.integers(len(parent.steps)))
        start = parent.steps[cut].start
        kept = parent.completion.token_ids[:start].tolist()
        spans = [kept[step.start : step.end] for step in parent.steps[:cut]]
        new = [int(random.integers(20, 23))]
        name = f"{parent.rollout_id}/fix"
        rollouts.append(rollout(name, [*spans, new], parent=parent.rollout_id, inherited=start))
    return make_group(*rollouts)


def rescored(group: Group, change: Callable[[Rollout], Mapping[str, Score]]) -> Group:
    rollouts = tuple(rollout.with_scores(**change(rollout)) for rollout in group.rollouts)
    return replace(group, rollouts=rollouts)


def contents(samples: Samples) -> dict[Any, np.ndarray]:
    """What the samples say, whatever the order in which they say it.

    Sides of pairs are told apart by what is trained: rollouts may read alike.
    """
    if isinstance(samples, PairSamples):
        sides = [
            (s.prompt_id, s.token_ids.tobytes(), s.loss_mask.tobytes()) for s in samples.sequences
        ]
        return {
            (sides[p.chosen], sides[p.rejected], p.shared_prefix): np.array(
                [p.chosen_score, p.rejected_score]
            )
            for p in samples.pairs
        }
    ids = [s.sequence_id for s in samples.sequences]
    columns = samples.advantages if isinstance(samples, AdvantageSamples) else samples.weights
    return dict(zip(ids, columns, strict=True))


def same(one: Samples, other: Samples) -> None:
    first, second = contents(one), contents(other)
    assert first.keys() == second.keys()
    for key, column in first.items():
        np.testing.assert_allclose(column, second[key], rtol=1e-5, atol=1e-6, err_msg=str(key))


def check_whole(builder: SampleBuilder, samples: Samples, looked_at: int) -> None:
    """Right kind, trained tokens in steps, every sequence used, advantages only where trained."""
    assert isinstance(samples, builder.makes)
    for s in samples.sequences:
        assert (s.step_index[s.loss_mask] >= 0).all() and s.loss_mask.any()
        assert len(s.step_scores) == s.step_index.max() + 1
    if isinstance(samples, PairSamples):
        used = {side for p in samples.pairs for side in (p.chosen, p.rejected)}
        assert used == set(range(len(samples.sequences)))
        sides = {
            (s.prompt_id, s.token_ids.tobytes(), s.loss_mask.tobytes()) for s in samples.sequences
        }
        assert len(sides) == len(samples.sequences)
        for p in samples.pairs:
            chosen, rejected = samples.sequences[p.chosen], samples.sequences[p.rejected]
            shared = p.shared_prefix
            assert chosen.token_ids[:shared].tolist() == rejected.token_ids[:shared].tolist()
            assert p.chosen_score > p.rejected_score
    if isinstance(samples, AdvantageSamples):
        for s, column in zip(samples.sequences, samples.advantages, strict=True):
            assert len(column) == len(s.token_ids) and column.dtype == np.float32
            assert (column[~s.loss_mask] == 0.0).all() and np.isfinite(column).all()
    if not isinstance(samples, LabelSamples):
        assert samples.groups + samples.groups_without_signal == looked_at


# --- laws of every builder -----------------------------------------------------------------------


@every_builder
@few
@given(data=st.data())
def test_permuting_a_group_permutes_the_result(builder: SampleBuilder, data: st.DataObject):
    group = data.draw(groups())
    shuffled = replace(group, rollouts=tuple(data.draw(st.permutations(group.rollouts))))
    same(builder.samples([group]), builder.samples([shuffled]))


@every_builder
@few
@given(one=groups("p"), other=groups("q"))
def test_the_order_of_groups_does_not_matter(builder: SampleBuilder, one: Group, other: Group):
    same(builder.samples([one, other]), builder.samples([other, one]))


@every_builder
@few
@given(one=groups("p"), other=groups("q"))
def test_samples_are_whole(builder: SampleBuilder, one: Group, other: Group):
    check_whole(builder, builder.samples([one, other]), 2)
    assert not builder.samples([]).sequences


@every_builder
@few
@given(group=groups(branches=False))
def test_a_group_of_one_is_no_special_case(builder: SampleBuilder, group: Group):
    check_whole(builder, builder.samples([make_group(group.rollouts[0])]), 1)


@every_builder
@few
@given(group=groups())
def test_a_failed_rollout_is_in_no_baseline_and_no_pair(builder: SampleBuilder, group: Group):
    if not builder.sources:  # nothing that it reads can fail
        return
    failures = {source: Failure(reason="timeout") for source in group.rollouts[0].scores}
    failed = make_rollout("z", [[11], [12]]).with_scores(**failures)
    more = replace(group, rollouts=(failed, *group.rollouts))
    same(builder.samples([group]), builder.samples([more]))


@every_builder
@few
@given(group=groups())
def test_only_declared_sources_are_read(builder: SampleBuilder, group: Group):
    others = group.rollouts[0].scores.keys() - builder.sources
    without = rescored(group, lambda _: {name: Failure(reason="unread") for name in others})
    same(builder.samples([group]), builder.samples([without]))


@every_advantage
@few
@given(data=st.data())
def test_a_rollout_without_a_declared_source_is_not_trained(
    builder: SampleBuilder, data: st.DataObject
):
    group = data.draw(groups())
    failed = data.draw(st.sampled_from(group.rollouts))
    source = data.draw(st.sampled_from(sorted(builder.sources)))
    rollouts = [
        r.with_scores(**{source: Failure(reason="timeout")}) if r is failed else r
        for r in group.rollouts
    ]
    trained = builder.samples([make_group(*rollouts)]).sequences
    assert not any(s.sequence_id.split("[")[0] == failed.rollout_id for s in trained)


@every_builder
@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("steps", [[[11]], [[11, 12], [13, 14], [15, 16]]])
def test_equal_rollouts_give_no_signal(
    builder: SampleBuilder, value: float, steps: list[list[int]]
):
    """One number everywhere: outcomes, step scores, values, implicit rewards, step lengths; and a
    teacher that agrees."""
    tokens = sum(map(len, steps))
    score = {
        "prm": make_step_scores([value] * len(steps), 0.1),
        "monte_carlo": make_counts([4] * len(steps), [int(4 * value)] * len(steps)),
        "critic": make_token_scores([value] * tokens),
        "implicit": make_token_scores([value] * tokens),
        "teacher": make_token_scores([0.0] * tokens),
        "reward": RolloutScore(value=value),
    }
    group = make_group(*(make_rollout(f"{i}", steps, outcome=value, scores=score) for i in "abc"))
    samples = builder.samples([group])
    check_whole(builder, samples, 1)
    if not isinstance(samples, LabelSamples):
        assert samples.sequences == () and samples.groups_without_signal == 1


def rounded(rollout: Rollout, random: np.random.Generator) -> dict[str, Score]:
    """Its scores with the rounding of another order of adding; counts are exact."""

    def shaken(score: Score) -> Score:
        if isinstance(score, OutcomeScore | RolloutScore):
            return replace(score, value=score.value * (1.0 + random.uniform(-1e-12, 1e-12)))
        if isinstance(score, Failure) or (isinstance(score, StepScores) and score.n is not None):
            return score
        away = np.float32(random.choice([-1e30, 1e30])) * np.sign(score.values)
        return replace(score, values=np.nextafter(score.values, away))

    return {name: shaken(score) for name, score in rollout.scores.items()}


@every_builder
@few
@given(group=groups(), seed=st.integers(0, 2**32 - 1))
def test_rounding_changes_nothing(builder: SampleBuilder, group: Group, seed: int):
    random = np.random.default_rng(seed)
    again = rescored(group, lambda rollout: rounded(rollout, random))
    same(builder.samples([group]), builder.samples([again]))


@every_builder
@pytest.mark.parametrize("value", [0.3, 0.5])
@pytest.mark.parametrize("seed", range(2))
def test_rollouts_that_are_equal_but_for_rounding_give_no_signal(
    builder: SampleBuilder, value: float, seed: int
):
    random, steps = np.random.default_rng(seed), [[11, 12], [13, 14], [15, 16]]
    score = {
        "prm": make_step_scores([value] * 3, 0.1),
        "monte_carlo": make_step_scores([value] * 3, 0.1),
        "critic": make_token_scores([value] * 6),
        "implicit": make_token_scores([value] * 6),
        "teacher": make_token_scores([0.0] * 6),
        "reward": RolloutScore(value=value),
    }
    alike = make_group(*(make_rollout(f"{i}", steps, outcome=value, scores=score) for i in "abcd"))
    group = rescored(alike, lambda rollout: rounded(rollout, random))
    samples = builder.samples([group])
    if not isinstance(samples, LabelSamples):
        assert samples.sequences == () and samples.groups_without_signal == 1
    if isinstance(builder, AdvantageBuilder):
        credit = [column for each in builder.advantages([group]) for _, column in each]
        assert len(credit) == 4 and not np.concatenate(credit).any()  # exactly 0


@every_builder
def test_a_thousand_steps(builder: SampleBuilder):
    number = 1000
    numbers = np.random.default_rng(0)

    def rollout(name: str, outcome: float) -> Rollout:
        score = {
            "prm": make_step_scores(numbers.random(number).tolist(), 0.1),
            "monte_carlo": make_counts([4] * number, numbers.integers(0, 5, number).tolist()),
            "critic": make_token_scores(numbers.random(number).tolist()),
            "implicit": make_token_scores(numbers.normal(scale=20.0, size=number).tolist()),
            "teacher": make_token_scores(numbers.normal(scale=20.0, size=number).tolist()),
        }
        return make_rollout(name, [[11]] * number, outcome=outcome, scores=score)

    samples = builder.samples([make_group(rollout("a", 1.0), rollout("b", 0.0))])
    check_whole(builder, samples, 1)


@every_advantage
@few
@given(group=groups())
def test_a_completion_without_tokens_is_left_out(builder: SampleBuilder, group: Group):
    nothing = {
        "prm": make_step_scores([], 0.1),
        "monte_carlo": make_counts([], []),
        "critic": make_token_scores([]),
    }
    empty = make_rollout(
        "empty", [], outcome=0.0, scores={**nothing, "implicit": make_token_scores([])}
    )
    more = replace(group, rollouts=(empty, *group.rollouts))
    same(builder.samples([group]), builder.samples([more]))


# --- laws that builders declare ------------------------------------------------------------------

Law = Callable[[Any, st.DataObject], None]
LAWS: dict[str, Law] = {}


def law(check: Law) -> Law:
    LAWS[check.__name__] = check
    return check


@law
def one_step_is_outcome(builder: SampleBuilder, data: st.DataObject) -> None:
    """One step a rollout, scored like the outcome: (outcome - mean) times one positive number."""

    def level(rollout: Rollout) -> dict[str, Score]:
        outcome = rollout.outcome
        if outcome is None:
            return {name: Failure(reason="timeout") for name in rollout.scores}
        assert len(rollout.steps) == 1
        made = make_step_scores([outcome.value])
        return {"prm": made, "monte_carlo": made, "reward": RolloutScore(value=outcome.value)}

    group = rescored(data.draw(groups(steps=1, branches=False)), level)
    samples = builder.samples([group])
    by_outcome = GroupAdvantages(std="none").samples([group])
    assert isinstance(samples, AdvantageSamples)
    expected = contents(by_outcome)
    if expected:
        ratios = [contents(samples)[key][-1] / column[-1] for key, column in expected.items()]
        assert ratios[0] > 0.0
        scaled = tuple(column * np.float32(ratios[0]) for column in by_outcome.advantages)
        same(samples, replace(by_outcome, advantages=scaled))
    else:
        assert samples.sequences == ()


@law
def one_token_steps_are_tokens(builder: Any, data: st.DataObject) -> None:
    """One token a step: the step-level and the token-level estimator are the same."""
    group = data.draw(groups(step_tokens=1))
    by_step = replace(builder, level="step").samples([group])
    same(by_step, replace(builder, level="token").samples([group]))


@law
def score_shift_changes_nothing(builder: SampleBuilder, data: st.DataObject) -> None:
    """The same constant on every score that is read."""
    group, shift = data.draw(groups()), data.draw(st.integers(-8, 8))

    def moved(rollout: Rollout) -> dict[str, Score]:
        return {
            name: score
            if isinstance(score, Failure)
            else replace(
                score,
                **(
                    {"value": score.value + shift}
                    if isinstance(score, OutcomeScore | RolloutScore)
                    else {"values": score.values + np.float32(shift)}
                ),
            )
            for name, score in rollout.scores.items()
            if name in builder.sources
        }

    same(builder.samples([group]), builder.samples([rescored(group, moved)]))


@law
def advantages_cancel(builder: SampleBuilder, data: st.DataObject) -> None:
    """Every rollout of a group counted once, its advantages add up to 0."""
    samples = builder.samples([data.draw(groups())])
    assert isinstance(samples, AdvantageSamples)
    columns = zip(samples.sequences, samples.advantages, strict=True)
    total = sum(float(column[s.loss_mask][0]) for s, column in columns)
    assert total == pytest.approx(0.0, abs=1e-5)


DECLARED = [(builder, name) for builder in BUILDERS for name in sorted(builder.laws)]


@pytest.mark.parametrize(("builder", "name"), DECLARED, ids=repr)
@few
@given(data=st.data())
def test_declared_laws_hold(builder: SampleBuilder, name: str, data: st.DataObject):
    LAWS[name](builder, data)


def test_every_law_is_declared_by_some_builder():
    assert {name for builder in BUILDERS for name in builder.laws} == set(LAWS)


def test_every_file_of_the_rooms_is_covered():
    assert {"GroupAdvantages", "Delta", "Vine", "OutcomePairs"} <= {c.__name__ for c in CLASSES}
