"""Held-out accuracy, and how well step scores follow an oracle."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rlstep.evaluation import evaluate_policy, evaluate_prm, probe_steps
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.testing.small import small_prompts
from rlstep.types import Prompt, Rollout, Sampling
from tests.builders import make_rollout

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
    metrics = await evaluate_policy(small_prompts(4), SAMPLING, context)
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
    metrics = await evaluate_policy(small_prompts(4), SAMPLING, context)
    # Right: a. Wrong: d. Without a verdict: b, which was not generated, and c.
    assert metrics["eval/accuracy"] == 0.5 and metrics["eval/problems"] == 2
    assert metrics["eval/failures/generator_lost"] == 1
    assert metrics["eval/failures/timeout"] == 1


async def test_without_a_single_verdict_there_is_no_accuracy():
    generator = FakeGenerator(knows_a_and_c, failing={"0/a"})
    context = fake_context(generator, FakeScorer())
    metrics = await evaluate_policy(small_prompts(1), SAMPLING, context)
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


async def test_auc_by_hand():
    """Every sample of 'a' is 'ok, ok, #5', of 'b' 'ok, bax, #9'."""

    def write(prefix: str, child: int, seed: int) -> str:
        return "ok\nok\n#5" if prefix[0] == "a" else "ok\nbax\n#9"

    def prm(rollout: Rollout) -> Sequence[float]:
        return [0.3, 0.5, 0.9] if rollout.prompt.prompt_id == "a" else [0.3, 0.4, 0.1]

    generator = FakeGenerator(write)
    context = fake_context(generator, FakeScorer(prm=prm), purpose="prm-probe")
    metrics = await evaluate_prm(small_prompts(2), SAMPLING, Oracle(), context)
    # 4 samples a problem. Right steps score 0.3, 0.5, 0.9 (a) and 0.3 (b), each 4 times; the
    # wrong ones 0.4. So of the four kinds of right steps 0.5 and 0.9 lie above: AUC = 2/4.
    assert metrics["prm/auc"] == pytest.approx(2 / 4)
    # Positions of right steps 0, 1, 2 and 0, of the wrong one 1. Earlier counts as better: two are
    # above, one ties: AUC = 2.5 / 4.
    assert metrics["prm/auc_position"] == pytest.approx(2.5 / 4)
    assert metrics["prm/probe_steps"] == 4 * 5 and metrics["prm/probe_wrong_steps"] == 4
    assert all(r.n == 4 and r.sampling == SAMPLING for r in generator.asked)


@pytest.mark.parametrize("text", ["ok\nok", "bax"])
async def test_one_class_alone_has_no_auc(text: str):
    context = fake_context(
        FakeGenerator(lambda prefix, child, seed: text),
        FakeScorer(prm=lambda rollout: [0.5] * len(rollout.steps)),
    )
    metrics = await evaluate_prm(small_prompts(2), SAMPLING, Oracle(), context)
    assert metrics == {"prm/probe_steps": 8.0 * len(text.split())}
