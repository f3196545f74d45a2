"""The study's own plug-ins and its arithmetic; its runs are the real stack's, and not made here."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recipes.studies import (
    asked_difficulty,
    decoding_figures,
    faulty_rank,
    pre_ppo,
    study_base,
    trained_weights,
    turn_credit,
    value_decoding,
)
from recipes.studies import credit_assignment as study
from rlstep.advantages.assemble import AdvantageBuilder
from rlstep.config import GeneratorConfig
from rlstep.curriculum.shuffled import Shuffled
from rlstep.interfaces import Measurement
from rlstep.reporting.describe import describe_config
from rlstep.running.preparing import load_prompts
from rlstep.tasks.arithmetic import arithmetic_tokenizer
from rlstep.testing.roles import TOKENIZER
from rlstep.types import RolloutScore
from tests.builders import make_group, make_rollout
from tests.curriculum.kit import draw

LONG = GeneratorConfig(context=512)
"""For prompts in bytes."""


@pytest.mark.parametrize("arm", study.ARMS)
def test_every_arm_is_a_valid_run(arm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_ARM", arm)
    config = study.config()
    assert (config.prompts_per_iteration, config.iterations) == (64, 12)
    assert config.policy == study.arithmetic("x", **study.ARMS["dpo"]).policy


def test_shuffled_scores_are_the_same_numbers_elsewhere() -> None:
    right = make_rollout("r", [[i] for i in range(10, 18)], outcome=1.0,
                         scores={"prm": list(range(8))})  # fmt: skip
    wrong = make_rollout("w", [[20], [21]], outcome=0.0, scores={"prm": [5, 6]})
    shuffled = study.ARMS["full_step_shuffled"]["samples"]
    samples = shuffled.samples([make_group(right, wrong)])
    chosen = samples.sequences[samples.pairs[0].chosen]
    assert sorted(chosen.step_scores.tolist()) == list(range(8))
    assert chosen.step_scores.tolist() != list(range(8))
    again = shuffled.samples([make_group(right, wrong)])
    assert np.array_equal(again.sequences[0].step_scores, samples.sequences[0].step_scores)


def test_the_table_worked_by_hand(tmp_path: Path) -> None:
    # dpo ends at 0.5 and 0.7, mean 0.6, s.e. 0.1; grpo at 0.6 and 0.9: differences 0.1 and 0.2,
    # mean 0.15, std 0.070711 / sqrt(2) = 0.05. Sampled while training: 0.2 and 0.4, mean 0.3,
    # the row of an evaluation aside.
    ends = {"dpo-0": 0.5, "dpo-1": 0.7, "grpo-0": 0.6, "grpo-1": 0.9}
    for name, end in ends.items():
        (tmp_path / name).mkdir()
        summary = {"complete": True, "eval_accuracy_start": 0.3, "eval_accuracy_end": end}
        (tmp_path / name / "summary.json").write_text(json.dumps({**summary, "train_seconds": 60}))
        rows = [{"eval/accuracy": 0.9}, {"rollout/accuracy": 0.2}, {"rollout/accuracy": 0.4}]
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    rows = study.table(study.Study(out=str(tmp_path), seeds=2, arms=("dpo", "grpo")))
    assert rows["grpo"]["while_training"] == pytest.approx(0.3)
    assert rows["grpo"]["while_training_standard_error"] == pytest.approx(0.0)
    assert rows["dpo"]["accuracy"] == pytest.approx(0.6)
    assert rows["dpo"]["standard_error"] == pytest.approx(0.1)
    assert rows["grpo"]["over_dpo"] == pytest.approx(0.15)
    assert rows["grpo"]["over_dpo_standard_error"] == pytest.approx(0.05)
    study.plot(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_a_complete_run_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def run(command: list[str], **kwargs: object) -> None:
        commands.append(command)

    monkeypatch.setattr(study_base.subprocess, "run", run)
    for name, complete in {"dpo-0": True, "dpo-1": False}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps({"complete": complete}))
    study_base.run_all("study.py", str(tmp_path), ["dpo"], seeds=range(3), iterations=1)
    assert [command[command.index("--name") + 1] for command in commands] == ["dpo-1", "dpo-2"]


# --- turns or trajectories -----------------------------------------------------------------------


def test_both_ways_to_pay_turns_are_valid_runs_that_differ_in_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = []
    for arm in turn_credit.ARMS:
        monkeypatch.setenv("STUDY_ARM", arm)
        runs.append(turn_credit.config())
    assert runs[0] != runs[1] == replace(runs[0], samples=runs[1].samples)


def test_the_two_ways_to_pay_turns_worked_by_hand() -> None:
    """Two games, of rewards (-1/2, 0) and (0, -1/4): each the other's baseline. As one sum both
    guesses of the first have -1/2 + 1/4; as turns the second of them, which lost nothing, has the
    1/4 that the other game lost there."""
    games = [
        make_rollout(name, [[1], [2]], outcome=0.0,
                     scores={"environment": rewards, "return": RolloutScore(value=sum(rewards))})
        for name, rewards in {"a": [-0.5, 0.0], "b": [0.0, -0.25]}.items()
    ]  # fmt: skip
    paid = {
        arm: [column.tolist() for [credit] in [builder.advantages([make_group(*games)])]
              for _, column in credit]
        for arm, builder in turn_credit.ARMS.items()
        if isinstance(builder, AdvantageBuilder)
    }  # fmt: skip
    assert paid == {
        "trajectory": [[-0.25, -0.25], [0.25, 0.25]],
        "turns": [[-0.25, 0.25], [0.25, -0.25]],
    }


def test_the_table_of_turns_worked_by_hand(tmp_path: Path) -> None:
    """Won over the last two of three iterations: turns 0.5 and 0.9, trajectory 0.4 and 0.6; the
    differences 0.1 and 0.3, mean 0.2, standard error 0.1."""
    curves = {
        "turns-0": (0.2, 0.4, 0.6),
        "turns-1": (0.2, 0.8, 1.0),
        "trajectory-0": (0.3, 0.4, 0.4),
        "trajectory-1": (0.3, 0.6, 0.6),
    }
    for name, curve in curves.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps({"complete": True}))
        rows = [{"rollout/accuracy": share, "rollout/tokens": 100} for share in curve]
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = turn_credit.table(turn_credit.Study(out=str(tmp_path), seeds=2, last=2))
    assert table["turns"]["won"] == pytest.approx(0.7) and table["turns"]["tokens"] == 300
    assert table["trajectory"]["curve"] == pytest.approx([0.3, 0.5, 0.5])
    assert table["trajectory"]["curve_standard_error"] == pytest.approx([0, 0.1, 0.1])
    turn_credit.plot(table, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 0
    assert turn_credit.difference(table) == pytest.approx((0.2, 0.1))


# --- the hardest or any --------------------------------------------------------------------------


def test_the_arms_of_pre_ppo_are_valid_runs_that_differ_in_the_curriculum_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = {}
    for arm in pre_ppo.ARMS:
        monkeypatch.setenv("STUDY_ARM", arm)
        runs[arm] = pre_ppo.config()
        assert replace(runs[arm], curriculum=runs["pre_ppo"].curriculum) == runs["pre_ppo"]
        load_prompts(replace(runs[arm], max_prompt_tokens=256, generator=LONG), TOKENIZER)
    assert len({type(run.curriculum) for run in runs.values()}) == 3


def test_both_selections_keep_as_many_after_the_same_start() -> None:
    prompts = pre_ppo.MIXED.load(TOKENIZER, 999).train
    assert [sum(p.meta["task"] == d for p in prompts) for d in pre_ppo.DOMAINS] == [192, 192]
    ranks = {p.prompt_id: i for i, p in enumerate(prompts)}
    seen = [
        Measurement(iteration=0, prompt_id=name, samples=8, correct=i % 9,
                    scores={"outcome": i % 9 / 8})
        for name, i in ranks.items()
    ]  # fmt: skip
    kept: dict[str, set[str]] = {}
    for arm in ("pre_ppo", "random"):
        chosen = [
            [
                p.prompt_id
                for p in pre_ppo.ARMS[arm].choose(prompts, draw(i, 64, 0, 0, seen)).prompts
            ]
            for i in range(8)
        ]
        assert {name for batch in chosen[:6] for name in batch} == set(ranks)
        assert chosen[:6] == [
            [p.prompt_id for p in Shuffled().choose(prompts, draw(i, 64)).prompts] for i in range(6)
        ]
        kept[arm] = {*chosen[6], *chosen[7]}
        assert len(kept[arm]) == 128
    assert max(ranks[name] % 9 for name in kept["pre_ppo"]) <= 3  # of nine rates the lowest third
    assert max(ranks[name] % 9 for name in kept["random"]) == 8


def test_the_table_of_selections_worked_by_hand(tmp_path: Path) -> None:
    """Of 4 problems pre_ppo ends with 3 and 4 right, random with 2 and 2: 1/4 and 1/2 over it, mean
    0.375, standard error 0.125. What stands before the last iteration does not count."""
    right = {"pre_ppo-0": 3, "pre_ppo-1": 4, "random-0": 2, "random-1": 2, "all-0": 2, "all-1": 3}
    for name, number in right.items():
        (tmp_path / name).mkdir()
        rows = [{"iteration": 0, "prompt_id": "logic/2/x", "verdict": "wrong"}] + [
            {"iteration": 9, "prompt_id": f"{domain}/2/x", "verdict": verdict}
            for domain, verdict in zip(
                ["arithmetic", "arithmetic", "logic", "logic"],
                ["correct"] * number + ["wrong"] * (4 - number),
                strict=True,
            )
        ]
        (tmp_path / name / "evaluations.jsonl").write_text("\n".join(map(json.dumps, rows)))
    rows = pre_ppo.table(pre_ppo.Study(out=str(tmp_path), seeds=2))
    assert rows["pre_ppo"]["accuracy"] == pytest.approx(0.875)
    assert rows["pre_ppo"]["over_random"] == pytest.approx(0.375)
    assert rows["pre_ppo"]["over_random_standard_error"] == pytest.approx(0.125)
    assert (rows["pre_ppo"]["arithmetic"], rows["pre_ppo"]["logic"]) == (1.0, 0.75)
    assert rows["random"]["over_random"] == 0.0
    pre_ppo.show(rows)


# --- asked and measured difficulty ---------------------------------------------------------------


@pytest.mark.parametrize("arm", ["written", "solved-exact"])
def test_what_writes_and_what_solves_are_valid_runs(
    arm: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "exact.txt").write_text("2+3\n2+3*4")
    monkeypatch.setenv("STUDY_ARM", arm)
    monkeypatch.setenv("STUDY_PROBLEMS", str(tmp_path / "exact.txt"))
    config = asked_difficulty.config()
    prompts = config.task.load(arithmetic_tokenizer(), config.max_prompt_tokens)
    assert len(prompts.train) == config.prompts_per_iteration and not prompts.dropped
    if arm == "written":
        levels = [prompt.meta["level"] for prompt in prompts.train]
        assert [levels.count(level) for level in range(10)] == [64] * 10
    else:
        assert [prompt.answer for prompt in prompts.train] == ["5", "20"]


def test_the_rank_correlation_worked_by_hand() -> None:
    """Ranks of (1, 2, 2, 3) are 1, 2.5, 2.5, 4; with those of (1, 2, 3, 4) the covariance sum is
    4.5, the squares' 4.5 and 5: 4.5 / sqrt(22.5) = 0.9486833."""
    assert asked_difficulty.ranks([1, 2, 2, 3]).tolist() == [1, 2.5, 2.5, 4]
    assert asked_difficulty.rank_correlation([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9486833)
    assert asked_difficulty.rank_correlation([1, 2, 3], [9, 5, 1]) == pytest.approx(-1)


def test_the_table_of_difficulty_worked_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two levels. Of the first one of two was as asked, and it was solved always; of the second
    both are the same problem, which was solved once in two."""
    monkeypatch.setattr(asked_difficulty, "WRITING", replace(asked_difficulty.WRITING, levels=2))

    def run(name: str, rows: list[tuple[str, str, str]]) -> None:
        (tmp_path / name).mkdir()
        lines = [json.dumps({"prompt_id": p, "answer": a, "verdict": v}) for p, a, v in rows]
        (tmp_path / name / "rollouts.jsonl").write_text("\n".join(lines))

    run("written-0", [("1=2+3", "2+3", "correct"), ("1=2+4", "2+3", "wrong"),
                      ("2=2+3", "2+3*4", "correct"), ("2=2+3", "2+3*4", "correct")])  # fmt: skip
    for name in ("written", "exact"):
        run(f"solved-{name}-0", [("2+3", "5", "correct"), ("2+3", "5", "correct"),
                                 ("2+3*4", "20", "correct"), ("2+3*4", "14", "wrong")])  # fmt: skip
    found = asked_difficulty.table(tmp_path)
    assert [(row["as_asked"], row["asked"], row["different"]) for row in found["levels"]] == [
        (1, 2, 1),
        (2, 2, 1),
    ]
    assert [row["pass_rate"]["written"] for row in found["levels"]] == [1.0, 0.5]
    assert found["exact"] == pytest.approx({"over_levels": 1, "over_problems": 1, "problems": 2})


# --- a faulty rank -------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", faulty_rank.ARMS)
def test_every_arm_with_a_faulty_rank_is_a_valid_run(arm: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDY_ARM", arm)
    config = faulty_rank.config()
    assert (config.policy.world_size, config.policy.zero_stage) == (4, 0)
    assert config.policy.aggregation == faulty_rank.ARMS[arm]
    json.dumps(describe_config(config))


# --- what is trained -----------------------------------------------------------------------------


@pytest.mark.parametrize("arm", trained_weights.ARMS)
def test_arms_of_other_weights_and_optimizers_differ_in_the_policy_alone(
    arm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained_weights.TUNED[arm] in trained_weights.RATES[arm]
    runs = []
    for name in (f"{arm}@0.003", "adamw@0.0001"):
        monkeypatch.setenv("STUDY_ARM", name)
        runs.append(trained_weights.config())
    changed, plain = runs
    assert changed.policy.optimizer.learning_rate == 0.003
    assert replace(changed, policy=plain.policy) == plain
    json.dumps(describe_config(changed))


# --- decoding by values --------------------------------------------------------------------------


def decoding(out: Path, **fields: Any) -> value_decoding.Study:
    return value_decoding.Study(
        **{"out": str(out), "problems": 2, "seeds": 1, "samples": 2, **fields}
    )


def test_the_arms_of_decoding_ask_a_prm_of_their_own_steps(tmp_path: Path) -> None:
    study = decoding(tmp_path)
    arms = value_decoding.arms(study, 0.7)
    asking = {arm for arm, (strategy, _) in arms.items() if strategy.reads}
    assert asking == set(value_decoding.PRM_OF)
    cuts = value_decoding.cuts(0.7)
    assert all(arms[arm][1] == cuts[kind] for arm, kind in value_decoding.PRM_OF.items())
    assert {s.sampling.max_tokens for s, _ in arms.values()} == {study.of.tokens}
    with pytest.raises(ValueError, match=r"ground is 'modular_chain_9'; .* 'modular-chain-8'"):
        decoding(tmp_path, ground="modular_chain_9")
    assert study.shortened is study and replace(study, quick=True).shortened.problems == 24


def test_the_table_of_decoding_worked_by_hand(tmp_path: Path) -> None:
    """Two problems. Of the first the better sample is right and the other is not, of the second
    none: best of 1 is 0.5 and 0, of 2 it is 1 and 0, so of 1.5 it is 0.75 and 0. Two samples of
    either took 40 tokens, one 10; the guided answers, both right, 30 or 1.5 samples of each. Greedy
    has the first: the guided ones are (0 + 1) / 2 over it, and (0.25 + 1) / 2 over best of 1.5."""
    study = decoding(tmp_path)
    scores = [[0.9, 0.1], [0.5, 0.6]]
    pieces = {
        "fit": {"threshold": 0.6, "tokens": 1000, "seconds": 1.0},
        "greedy": {"right": [1.0, 0.0], "tokens": 20, "seconds": 1.0},
        "samples": {"right": [[1.0, 0.0], [0.0, 0.0]], "tokens": 40, "seconds": 1.0,
                    "lines": scores, "unsure": scores},
        "value_guided": {"right": [1.0, 1.0], "tokens": 30, "seconds": 1.0},
        "value_guided_of_2": {"right": [1.0, 1.0], "tokens": 30, "seconds": 1.0},
        "best_of_steps": {"right": [1.0, None], "tokens": 40, "seconds": 1.0},
        "step_beam": {"right": [0.0, 0.0], "tokens": 400, "seconds": 1.0},
    }  # fmt: skip
    for name, piece in pieces.items():
        value_decoding.write(study.file(name, 0), piece)
    found = value_decoding.table(study)
    guided = found["rows"]["value_guided"]
    assert (guided["accuracy"], guided["tokens"], guided["n"]) == (1.0, 15.0, 1.5)
    assert guided["over_greedy"] == 0.5 and guided["over_greedy_interval"] == (0.0, 1.0)
    assert guided["best_of_n"] == 0.375 and guided["over_best_of_n"] == 0.625
    # What failed is left out on both sides: 1 of best of 2's 1 and greedy's 1.
    steps = found["rows"]["best_of_steps"]
    assert (steps["accuracy"], steps["over_greedy"], steps["over_best_of_n"]) == (1.0, 0.0, 0.0)
    assert found["rows"]["step_beam"]["n"] == 2.0  # of 20 that its tokens pay for all there are
    assert found["rows"]["best of 2, lines"]["accuracy"] == 0.5
    assert found["pass"] == 0.5 and found["label_tokens"] == 1000
    # Right is 0.9, wrong are 0.1, 0.5 and 0.6: below it all three.
    assert found["auc"] == {"lines": 1.0, "unsure": 1.0}
    value_decoding.show(found)


def test_the_interval_of_decoding() -> None:
    """Of one seed with 100 problems, half of them right, the standard error is 0.05: about 1.96 of
    them to either side. Seeds that differ widen it, and what failed is left out."""
    half = np.tile([0.0, 1.0], 50)[None]
    assert decoding_figures.interval(half) == pytest.approx((0.402, 0.598), abs=0.02)
    apart = np.array([np.zeros(100), np.ones(100)])
    assert decoding_figures.interval(apart) == (0.0, 1.0)
    assert decoding_figures.interval(np.where(half, half, np.nan)) == (1.0, 1.0)


def test_what_is_decoded_is_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study, done = decoding(tmp_path), []

    async def fit(study: Any, roles: Any, seed: int, late: Any) -> None:
        await answer(study, roles, "fit", seed)

    async def answer(study: Any, roles: Any, arm: str, seed: int) -> None:
        done.append(arm)
        if len(done) == 3:
            raise RuntimeError("cut off")
        value_decoding.write(study.file(arm, seed), {})

    async def start(roles: Any, stack: Any) -> None:
        pass

    monkeypatch.setattr(value_decoding, "fit", fit)
    monkeypatch.setattr(value_decoding, "answer", answer)
    monkeypatch.setattr(value_decoding.Roles, "start", start)
    with pytest.raises(RuntimeError, match="cut off"):
        value_decoding.main(study)
    value_decoding.main(replace(study, seconds=1e-9))  # no time for anything
    assert "not done yet: samples-0, value_guided-0" in capsys.readouterr().out
    asyncio.run(value_decoding.work(study))
    guided = ["value_guided", "value_guided_of_2"]
    assert done == ["fit", "greedy", "samples", "samples", *guided, "best_of_steps", "step_beam"]


class FittedPrm:
    """A learner that notes what it is told."""

    def __init__(self, told: list[str]) -> None:
        self.told = told

    def __getattr__(self, verb: str) -> Any:
        async def note(folder: str) -> None:
            self.told.append(f"{verb} {Path(folder).name}")

        return note


async def test_a_fit_goes_on_after_its_last_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, told = decoding(tmp_path, batches=2), list[str]()

    class Stub:
        sampled = 0

        async def scorer(self, stack: Any, folder: str) -> None:
            pass

        async def learner(self, stack: Any, path: str, loss: Any, seed: int) -> FittedPrm:
            return FittedPrm(told)

    async def batch(study: Any, roles: Any, scorer: Any, learners: Any, state: Any) -> float:
        roles.sampled += 100
        return state["threshold"] or 0.7

    monkeypatch.setattr(value_decoding, "fit_batch", batch)
    roles: Any = Stub()
    lates = iter([False, True])
    await value_decoding.fit(study, roles, 0, lambda: next(lates))
    assert told == ["save lines-1", "save unsure-1"] and not study.file("fit", 0).exists()
    told.clear()
    await value_decoding.fit(study, roles, 0, lambda: False)
    assert told == ["restore lines-1", "restore unsure-1", "save lines-2", "save unsure-2",
                    "export prm-lines-0", "export prm-unsure-0"]  # fmt: skip
    done = json.loads(study.file("fit", 0).read_text())
    assert (done["batches"], done["threshold"], done["tokens"]) == (2, 0.7, 200)


@pytest.mark.slow
def test_decoding_by_values_on_the_real_engine(tmp_path: Path) -> None:
    """Two PRMs fitted and five arms answered, of so little that only the laws can be seen."""
    command = [sys.executable, "recipes/studies/value_decoding.py", "--quick", "--out"]
    done = subprocess.run(
        [*command, str(tmp_path), "--json", str(tmp_path / "table.json")],
        cwd=Path(__file__).parents[1], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    for arm in value_decoding.PRM_OF:
        assert 0.0 <= rows[arm]["accuracy"] <= 1.0
        assert rows[arm]["tokens"] <= 16 * 72
    assert rows["greedy"]["tokens"] <= rows["value_guided"]["tokens"] <= 8 * 72
