"""Held-out accuracy, and how well step scores follow an oracle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from rlstep.measuring.evaluation import (
    FEWEST_STEPS,
    auc_by_position,
    evaluate_prm,
    oracle_agreement,
    outcome_agreement,
    probe_steps,
    score_drift,
    tells_apart,
)
from rlstep.measuring.metrics import roc_auc, rollout_metrics
from rlstep.measuring.monitors import POSITIONS
from rlstep.rollouts.held_out import sample_greedily, sample_probe
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.testing.small import small_prompts
from rlstep.types import Failure, Prompt, Rollout, Sampling
from tests.builders import make_outcome, make_rollout, make_step_scores, make_text_rollout

SAMPLING = Sampling(max_tokens=64, temperature=0.8, top_p=0.9, top_k=20)


class Oracle:
    """A step with an 'x' is wrong."""

    def first_error(self, prompt: Prompt, step_texts: Sequence[str]) -> int | None:
        wrong = [i for i, text in enumerate(step_texts) if "x" in text]
        return wrong[0] if wrong else None


# --- the policy ----------------------------------------------------------------------------------


def knows_a_and_c(prefix: str, child: int, seed: int) -> str:
    return "#5" if prefix[0] in "ac" else "#9"


async def test_accuracy_is_greedy_one_sample_a_problem():
    generator = FakeGenerator(knows_a_and_c)
    context = fake_context(generator, FakeScorer(), iteration=7, purpose="eval")
    metrics = rollout_metrics(
        await sample_greedily(small_prompts(4), SAMPLING, context), prefix="eval"
    )
    assert metrics["eval/accuracy"] == 0.5 and metrics["eval/problems"] == 4
    # The standard error of 1, 0, 1, 0 is sqrt(4 * 0.25 / 3) / sqrt(4) = 0.2887.
    assert metrics["eval/accuracy_standard_error"] == pytest.approx(0.2887, abs=1e-4)
    for request in generator.asked:
        assert request.n == 1 and request.request_id.startswith("eval7/")
        sampling = request.sampling
        assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.0, 1.0, 0)
        assert sampling.max_tokens == 64


async def test_accuracy_leaves_failures_out_and_counts_them():
    generator = FakeGenerator(knows_a_and_c, failing={"0/b"})
    context = fake_context(generator, FakeScorer(timeouts={"0/c/0"}))
    metrics = rollout_metrics(
        await sample_greedily(small_prompts(4), SAMPLING, context), prefix="eval"
    )
    # Right: a. Wrong: d. Without a verdict: b, which was not generated, and c.
    assert metrics["eval/accuracy"] == 0.5 and metrics["eval/problems"] == 2
    assert metrics["eval/failures/generator_lost"] == 1
    assert metrics["eval/failures/timeout"] == 1


async def test_without_a_single_verdict_there_is_no_accuracy():
    generator = FakeGenerator(knows_a_and_c, failing={"0/a"})
    context = fake_context(generator, FakeScorer())
    metrics = rollout_metrics(
        await sample_greedily(small_prompts(1), SAMPLING, context), prefix="eval"
    )
    assert "eval/accuracy" not in metrics and metrics["eval/failures"] == 1


# --- the PRM -------------------------------------------------------------------------------------


class TextOracle(Oracle):
    """For rollouts of the builders, whose token 7 reads '7 ': 9 is wrong."""

    def first_error(self, prompt: Prompt, step_texts: Sequence[str]) -> int | None:
        return super().first_error(prompt, [text.replace("9", "x") for text in step_texts])


def test_probe_ends_with_the_first_error():
    rollouts = [
        make_rollout("right", [[1], [2]], scores={"prm": [0.9, 0.8]}),
        make_rollout("wrong", [[1], [9], [3]], scores={"prm": [0.7, 0.2, 0.6]}),
        make_rollout("unscored", [[1], [9]]),
    ]
    probe = probe_steps(rollouts, TextOracle())
    # The third step of 'wrong' comes after the error: neither right nor a first error.
    assert probe.right.tolist() == [True, True, True, False]
    assert probe.score == pytest.approx([0.9, 0.8, 0.7, 0.2])
    assert probe.position.tolist() == [0, 1, 0, 1]


def write_a_and_b(prefix: str, child: int, seed: int) -> str:
    """Every sample of 'a' is 'ok, ok, #5', of 'b' 'ok, bax, #9'; the answer is 5."""
    return "ok\nok\n#5" if prefix[0] == "a" else "ok\nbax\n#9"


def scores_of_a_and_b(rollout: Rollout) -> Sequence[float]:
    return [0.3, 0.5, 0.9] if rollout.prompt.prompt_id == "a" else [0.3, 0.4, 0.1]


async def test_a_probe_is_sampled_once_and_measured_again():
    generator, scorer = FakeGenerator(write_a_and_b), FakeScorer(prm=scores_of_a_and_b)
    context = fake_context(generator, scorer, purpose="prm-probe")
    probe = await sample_probe(small_prompts(2), SAMPLING, context)
    assert all(r.n == 4 and r.sampling == SAMPLING for r in generator.asked)
    assert len(generator.asked) == 2 and len(scorer.verified) == 8
    first = evaluate_prm(probe, await scorer.score_steps(probe), Oracle())

    # 4 samples a problem. Right steps score 0.3, 0.5, 0.9 (a) and 0.3 (b), each 4 times; the
    # wrong ones 0.4. So of the four kinds of right steps 0.5 and 0.9 lie above: AUC = 2/4.
    assert first["prm/auc"] == pytest.approx(2 / 4)
    # Positions of right steps 0, 1, 2 and 0, of the wrong one 1. Earlier counts as better: two are
    # above, one ties: AUC = 2.5 / 4.
    assert first["prm/auc_position"] == pytest.approx(2.5 / 4)
    assert first["prm/probe_steps"] == 4 * 5 and first["prm/probe_wrong_steps"] == 4
    # Bins of 0.3 (2 kinds, both right), 0.4 (wrong), 0.5 and 0.9 (right):
    # (2 * 0.7 + 1 * 0.4 + 1 * 0.5 + 1 * 0.1) / 5.
    assert first["prm/ece"] == pytest.approx(2.4 / 5)
    assert first["prm/reliability/0.4/share"] == 0.0
    assert first["prm/reliability/0.3/score"] == pytest.approx(0.3)
    assert first["prm/reliability/0.3/number"] == 8
    # The last step scores 0.9 where the answer is right and 0.1 where it is wrong.
    assert first["prm/outcome_auc"] == first["prm/outcome_auc_min"] == 1.0
    assert first["prm/outcome_ece"] == pytest.approx(0.1)
    assert first["prm/probe_chains"] == 8
    assert first["prm/drift"] == first["prm/drift_mean"] == 0.0

    scorer.prm = lambda rollout: [score + 0.05 for score in scores_of_a_and_b(rollout)]
    later = evaluate_prm(probe, await scorer.score_steps(probe), Oracle())
    assert len(generator.asked) == 2 and len(scorer.verified) == 8  # nothing was sampled again
    assert later["prm/drift"] == later["prm/drift_mean"] == pytest.approx(0.05)
    assert later["prm/auc"] == first["prm/auc"]


async def test_without_an_oracle_the_verifier_is_left():
    context = fake_context(FakeGenerator(write_a_and_b), FakeScorer(prm=scores_of_a_and_b))
    probe = await sample_probe(small_prompts(2), SAMPLING, context)
    metrics = evaluate_prm(probe, probe, None)
    assert {"prm/outcome_auc", "prm/outcome_ece", "prm/drift"} <= set(metrics)
    assert not {"prm/auc", "prm/ece", "prm/probe_steps"} & set(metrics)


@pytest.mark.parametrize("right", [True, False])
def test_one_class_alone_has_no_auc(right: bool):
    texts = [[1], [2]] if right else [[9], [9]]
    rollouts = [make_rollout("r", texts, outcome=float(right), scores={"prm": [0.5, 0.5]})]
    steps = oracle_agreement(probe_steps(rollouts, TextOracle()))
    assert "prm/auc" not in steps
    assert steps["prm/probe_steps"] == (2 if right else 1)  # after the error nothing is probed
    chains = outcome_agreement(rollouts)
    assert "prm/outcome_auc" not in chains
    assert (chains["prm/probe_chains"], chains["prm/outcome_ece"]) == (1, 0.5)


def test_what_failed_is_not_measured():
    rollouts = [
        make_rollout("no verdict", [[1]], scores={"prm": [0.9]}),
        make_rollout("no score", [[1]], outcome=1.0, scores={"prm": Failure(reason="not_finite")}),
        make_rollout("empty", [], outcome=0.0, scores={"prm": []}),
    ]
    assert outcome_agreement(rollouts) == {"prm/probe_chains": 0.0}
    assert outcome_agreement([]) == {"prm/probe_chains": 0.0}
    assert oracle_agreement(probe_steps([], Oracle())) == {"prm/probe_steps": 0.0}


def test_a_prm_without_an_opinion_tells_nothing_apart():
    failed = make_rollout("f", [[1]], scores={"prm": Failure(reason="not_finite")})
    level = make_rollout("l", [[1], [2]], scores={"prm": [0.5, 0.5]})
    other = make_rollout("o", [[1]], scores={"prm": [0.25]})
    assert not tells_apart([]) and not tells_apart([failed]) and not tells_apart([level, level])
    assert tells_apart([level, failed, other])


def test_drift_worked_by_hand():
    def scored(name: str, *values: float) -> Rollout:
        return make_rollout(name, [[1]] * len(values), scores={"prm": values})

    failed = make_rollout("b", [[1]], scores={"prm": Failure(reason="not_finite")})
    first = [scored("a", 0.5, 0.5), scored("b", 0.1), scored("c", 0.75)]
    now = [scored("a", 0.75, 0.25), failed, scored("c", 0.25)]
    # Moves of 0.25, -0.25 and -0.5; what failed now has none.
    assert score_drift(first, now) == {"prm/drift": pytest.approx(1 / 3),
                                       "prm/drift_mean": pytest.approx(-0.5 / 3)}  # fmt: skip
    assert score_drift([failed], [failed]) == {}


# --- by position ---------------------------------------------------------------------------------


def test_the_auc_by_position_worked_by_hand():
    """At position 0 every right step scores above every wrong one, at position 1 none does."""
    n = FEWEST_STEPS
    positions = np.repeat([0, 1], 2 * n)
    scores = np.concatenate([[0.9] * n, [0.1] * n, [0.1] * n, [0.9] * n])
    right = np.tile(np.repeat([True, False], n), 2)
    assert auc_by_position(positions, scores, right) == {0: 1.0, 1: 0.0}
    # In one number: of 4 n^2 pairs n^2 at position 0 and none at 1, crossed n^2 / 2 each: 1/2.
    assert roc_auc(scores, right) == 0.5
    order = np.random.default_rng(0).permutation(4 * n)
    assert auc_by_position(positions[order], scores[order], right[order]) == {0: 1.0, 1: 0.0}


@pytest.mark.parametrize(
    ("right", "wrong", "known"), [(10, 10, True), (9, 30, False), (30, 9, False)]
)
def test_a_position_with_few_of_a_class_has_no_auc(right: int, wrong: int, known: bool):
    labels = np.repeat([True, False], [right, wrong])
    found = auc_by_position(np.full(len(labels), 2), labels.astype(float), labels)
    assert found == ({2: 1.0} if known else {})


def test_positions_far_in_have_no_auc():
    labels = np.tile([True, False], 20)
    found = auc_by_position(np.full(40, POSITIONS), labels.astype(float), labels)
    assert found == {} and auc_by_position(np.zeros(0), np.zeros(0), np.zeros(0, bool)) == {}


def test_agreement_tells_the_auc_by_position():
    def chain(text: str, score: float, outcome: float) -> Rollout:
        prompt = small_prompts(1)[0]
        made = make_text_rollout(prompt, ["1\n", text])
        return made.with_scores(prm=make_step_scores([0.5, score]), outcome=make_outcome(outcome))

    rollouts = [chain("2", 0.8, 1.0)] * 10 + [chain("x", 0.3, 0.0)] * 10
    steps = oracle_agreement(probe_steps(rollouts, Oracle()))
    assert {n: v for n, v in steps.items() if "auc_at" in n} == {"prm/auc_at/1": 1.0}
    chains = outcome_agreement(rollouts)
    assert {n: v for n, v in chains.items() if "auc_at" in n} == {
        "prm/outcome_auc_at/0": 0.5,  # all first steps score the same
        "prm/outcome_auc_at/1": 1.0,
    }
