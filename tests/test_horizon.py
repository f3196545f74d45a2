"""The horizon study: its plug-ins and its arithmetic. Its runs are not made here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recipes.modular_chain_base import EVALUATION
from recipes.studies import horizon as study
from recipes.studies import horizon_arms as arms
from recipes.studies import horizon_figures as figures
from rlstep.rollouts.independent import Independent
from rlstep.tasks.modular_chain import modular_chain_tokenizer, problem
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.types import AdvantageSamples, Sampling
from tests.builders import make_group, make_rollout

TEXT = "ba=7be+5bi*2bo-9"


@pytest.mark.parametrize("arm", arms.ARMS)
@pytest.mark.parametrize("horizon", [4, 64])
def test_every_arm_is_a_valid_run(arm: str, horizon: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_ARM", f"{arm} {horizon} 0.001 512")
    config = study.config()
    assert config.policy.optimizer.learning_rate == 0.001
    assert config.train_tokens == 512 * (4 * horizon + 2)
    assert config.rollouts.sampling.max_tokens == 4 * horizon + 2
    drawn = config.evaluation.drawn(config.rollouts.sampling)
    assert (drawn.temperature, drawn.max_tokens) == (1.0, 4 * horizon + 2)
    assert config.evaluation.samples == 8


def test_a_control_differs_from_its_arm_in_the_order_of_scores_alone() -> None:
    for family in ("full_step", "process"):
        arm, control = arms.ARMS[f"{family}_prm"], arms.ARMS[f"{family}_shuffled"]
        assert control["samples"] == arms.Shuffled(of=arm["samples"])
        assert {**control, "samples": arm["samples"]} == arm
        assert arms.TUNED[f"{family}_shuffled"] == arms.TUNED[f"{family}_prm"]
    arm, control = arms.ARMS["located"], arms.ARMS["located_shuffled"]
    view = arm["samples"].view
    assert control["samples"] == replace(arm["samples"], view=arms.ShuffledView(of=view))
    assert {**control, "samples": arm["samples"]} == arm
    assert arms.TUNED["located_shuffled"] == arms.TUNED["located"]


async def test_the_oracle_goes_by_the_line_before() -> None:
    prompt = problem(TEXT + "\n", modular_chain_tokenizer())
    text = "be+5=13\nbi*2=9\nbo-9=0\n#0"
    context = fake_context(FakeGenerator(lambda *_: text), FakeScorer())
    strategy = Independent(samples_per_prompt=1, sampling=Sampling(max_tokens=64))
    [group] = [group async for group in strategy.collect([prompt], context)]
    [scored, *_] = await arms.Following().label(group.rollouts, context)
    scores = scored.step_scores("oracle")
    assert scores is not None and scores.values.tolist() == [0, 1, 1, 1]


def test_a_step_is_paid_for_itself_alone() -> None:
    # Scores (1, 0) and (1) less their mean 2/3; the outcomes play no part.
    group = make_group(
        make_rollout("a", [[11], [12]], outcome=1.0, scores={"prm": [1, 0]}),
        make_rollout("b", [[13]], outcome=0.0, scores={"prm": [1]}),
    )
    samples = arms.process("prm").samples([group])
    assert isinstance(samples, AdvantageSamples)
    assert samples.advantages[0][2:].tolist() == pytest.approx([1 / 3, -2 / 3], abs=1e-6)
    assert samples.advantages[1][2:].tolist() == pytest.approx([1 / 3], abs=1e-6)


def test_shuffled_labels_stand_on_the_same_steps_and_are_as_many() -> None:
    view = arms.ShuffledView()
    rng = np.random.default_rng(0)
    moved = 0
    for _ in range(50):
        n, k = np.zeros((2, 17), dtype=np.int32)
        error = int(rng.integers(1, 16))
        n[error : error + 2], k[error] = 1, 1
        targets, weights = view.of.labels(n, k)
        mixed, same = view.labels(n, k)
        assert (weights == same).all() and targets.sum() == mixed.sum()
        assert (mixed[weights == 0] == 0).all()
        moved += (mixed != targets).any()
    assert moved > 25


def test_intervals_by_seeds_and_problems() -> None:
    mean, low, high = figures.interval([np.full(8, 0.25), np.full(8, 0.75)])
    # Two seeds drawn twice: 0.25, 0.5 and 0.75 with probabilities 1/4, 1/2 and 1/4.
    assert (mean, low, high) == (0.5, 0.25, 0.75)
    rng = np.random.default_rng(0)
    mean, low, high = figures.interval([rng.integers(0, 2, 400).astype(float) for _ in range(4)])
    # 1,600 coins have a standard error of 1.25 points, drawn twice over.
    assert low < mean < high and 0.03 < high - low < 0.12


def test_the_auc_of_a_prm_by_quarters_worked_by_hand() -> None:
    text = "be+5=13\nbi*2=9\nbo-9=1\n#1"  # wrong, right, wrong, right
    row = {"prompt_id": TEXT, "text": text, "scores": {"prm": [0.1, 0.9, 0.95, 0.8]}}
    other = {"prompt_id": TEXT, "text": "be+5=12\nbi*2=7\nbo-9=15\n#15",
             "scores": {"prm": [0.5, 0.7, 0.96, 0.9]}}  # fmt: skip
    # Wrong at 0.1 and 0.95, right at 0.9, 0.8, 0.5, 0.7, 0.96, 0.9: of 12 pairs 6 + 1 in order.
    assert study.prm_auc([row, other]) == [pytest.approx(7 / 12, abs=1e-3), 1.0, None, 1.0, None]
    assert study.prm_auc([{"prompt_id": TEXT, "text": text, "scores": {}}]) == [None] * 5


def kept(arm: str, seed: int, right: str, horizon: int = 32) -> dict[str, object]:
    return {
        "run": f"{arm}-{horizon}-{seed}", "arm": arm, "horizon": horizon, "seed": seed,
        "rate": arms.TUNED[arm], "greedy": [0.5, 0.6], "answers": [0.02, 0.1], "start": "0100",
        "right": right,
        "tokens": [100, 200], "while_training": [0.1, 0.2], "without_signal": 0.9,
        "auc": [None] * 5, "seconds": 60,
    }  # fmt: skip


def test_the_table_is_made_of_the_kept_lines_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [kept("grpo", 0, "0080"), kept("grpo", 1, "0040"), kept("dpo", 100, "8888")]
    rows += [kept("located", 0, "8088"), kept("located", 1, "8048")]
    file = tmp_path / "horizon.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    study.main(study.Study(kept=str(file), table=True))
    told = capsys.readouterr().out
    # 8/8 and 4/8 of one problem in four: 25 % and 12.5 %.
    assert "| grpo | 18.8 [" in told and "| dpo |" not in told
    # Of each seed 16 more of 32: two whole problems of four.
    assert "K = 32: located - grpo: +50.0 [" in told
    assert (tmp_path / "horizon.png").stat().st_size > 1000
    assert (tmp_path / "horizon_tokens.png").stat().st_size > 1000


def test_a_run_that_is_kept_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def run(command: list[str], **kwargs: object) -> None:
        started.append(command[command.index("--name") + 1])
        folder = tmp_path / started[-1]
        folder.mkdir()
        (folder / "summary.json").write_text(json.dumps({"complete": True}))
        rows = [
            {"iteration": 0, "eval/accuracy": 0.5, "eval/sampled/accuracy": 0.02},
            {"iteration": 1, "rollout/accuracy": 0.1, "rollout/sampled_total": 9,
             "rollout/without_signal": 1.0, "time/iteration": 2.0},
            {"iteration": 1, "eval/accuracy": 0.6, "eval/sampled/accuracy": 0.1},
        ]  # fmt: skip
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
        lucky = "be+5=13\nbi*2=9\nbo-9=15\n#15"
        texts = [(0, lucky), (1, "be+5=12\nbi*2=7\nbo-9=15\n#15"), (1, lucky)]
        samples = [
            {"iteration": at, "prompt_id": TEXT, "verdict": "correct", "text": text}
            for at, text in texts
        ]
        (folder / "samples.jsonl").write_text("\n".join(map(json.dumps, samples)))

    monkeypatch.setattr(study.subprocess, "run", run)
    file = tmp_path / "kept.jsonl"
    asked = study.Study(out=str(tmp_path), kept=str(file), horizons=(8,), arms=("grpo",), seeds=1)
    study.main(asked)
    study.main(asked)
    assert started == ["grpo-8-0-0.0003"]
    [row] = study.read(str(file))
    # Of the two right answers one came after a wrong step.
    assert (row["start"], row["right"], row["tokens"]) == ("0", "1", [9])


@pytest.mark.slow
def test_a_small_form_of_it_on_the_real_stack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "kept.jsonl"
    study.main(study.Study(out=str(tmp_path / "runs"), kept=str(file), quick=True))
    rows = {row["arm"]: row for row in study.read(str(file))}
    assert set(rows) == {"grpo", "located"}
    for row in rows.values():
        # It stops after the iteration that crosses the budget, labels included.
        assert row["tokens"][-2:-1] < [256 * 18] <= row["tokens"][-1:]
        assert len(row["right"]) == EVALUATION.problems
    assert "K =  4" in capsys.readouterr().out
