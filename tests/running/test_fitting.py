"""Supervised training as a run, with a learner of ours: what it is handed, and what it leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from rlstep.cli import run_recipe
from rlstep.config import LearnerConfig, ModelConfig
from rlstep.examples.preferences import Preferences
from rlstep.fit_config import FitConfig
from rlstep.interfaces import Examples, StartModel
from rlstep.losses.bradley_terry import BradleyTerry
from rlstep.losses.cross_entropy import CrossEntropy
from rlstep.losses.dpo import Dpo
from rlstep.losses.step_label import StepLabelLoss
from rlstep.reporting.hashing import SamplesHash, hash_weights
from rlstep.reporting.sinks.files import Files
from rlstep.running import fitting
from rlstep.running.fitting import prepare_fit
from rlstep.tasks.arithmetic import Arithmetic, arithmetic_tokenizer, sft_samples
from rlstep.tensors.templates import PromptTemplate
from rlstep.types import LabelSamples, Samples
from tests.reporting.made_models import weights
from tests.run.run_kit import make_policy

TASK = Arithmetic(operations=2, train=16, evaluation=4)


@dataclass(frozen=True, kw_only=True)
class Solutions(Examples):
    makes: ClassVar[type] = LabelSamples

    updates: int = 1000

    def batches(self, tokenizer: Any, seed: int) -> Iterator[LabelSamples]:
        rng = np.random.default_rng(seed)
        problems = TASK.load(tokenizer, 64).train
        for _ in range(self.updates):
            yield sft_samples(problems[:2], rng, 0.5, tokenizer)

    def held_out(self, tokenizer: Any) -> LabelSamples:
        rng = np.random.default_rng(0)
        return sft_samples(TASK.load(tokenizer, 64).evaluation, rng, 0.5, tokenizer)


@dataclass(frozen=True, kw_only=True)
class Written(StartModel):
    def write(self, folder: str, seed: int) -> None:
        make_policy(Path(folder))


class Learner:
    """Keeps a number that depends on every batch and their order; predicts -1/2 a token."""

    started: ClassVar[list[Learner]] = []

    def __init__(self, during: Callable[[int], None]) -> None:
        self.seen, self.trained, self.during = 0, 0, during
        self.started.append(self)

    async def train(self, samples: Samples) -> dict[str, float]:
        ids = np.concatenate([s.token_ids for s in samples.sequences])
        self.seen = (31 * self.seen + int(ids @ np.arange(len(ids)))) % 1_000_003
        self.trained += 1
        self.during(self.trained)
        fixed = {"skipped_updates": 0.0, "seconds": 0.5, "padding": 0.25}
        seldom = {} if self.trained % 2 else {"weights/std": float(self.trained)}
        return {"loss": float(self.trained), "updates": 1.0, "tokens": 10.0, **fixed, **seldom}

    async def predict(self, rows: Sequence[Any]) -> list[Any]:
        return [np.full(len(row), -0.5, np.float32) for row in rows]

    async def save(self, directory: str) -> None:
        Path(directory).mkdir()
        (Path(directory) / "seen.json").write_text(json.dumps([self.seen, self.trained]))

    async def restore(self, directory: str) -> None:
        self.seen, self.trained = json.loads((Path(directory) / "seen.json").read_text())

    async def export(self, directory: str) -> None:
        (Path(directory) / "seen.txt").write_text(str(self.seen))
        weights(Path(directory), self.seen.to_bytes(3, "little"))

    async def close(self) -> None: ...


@pytest.fixture
def during(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[int], None]]:
    """What happens when the learner has trained so many batches."""
    from rlstep.actors.learner.learner_group import LearnerGroup

    happens: list[Callable[[int], None]] = []

    def tell(number: int) -> None:
        for each in happens:
            each(number)

    async def start(*_: Any, **__: Any) -> Learner:
        return Learner(tell)

    monkeypatch.setattr(LearnerGroup, "start", start)
    monkeypatch.setattr(fitting, "start_ray", lambda *_: None)
    return happens


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_policy(tmp_path_factory.mktemp("models") / "policy")


def config(policy: str, root: Path, **fields: Any) -> FitConfig:
    return FitConfig(
        **{
            "name": "fitted",
            "learner": LearnerConfig(model=ModelConfig(path=policy)),
            "loss": CrossEntropy(),
            "examples": Solutions(),
            "iterations": 4,
            "updates_per_iteration": 3,
            "sinks": (Files(),),
            "run_dir": str(root),
            **fields,
        }
    )


def trained(config: FitConfig) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The summary, and the metrics by line."""
    run = prepare_fit(config)
    asyncio.run(run.run())
    summary = json.loads(run.directory.summary.read_text())
    return summary, list(run.directory.metrics)


@pytest.mark.usefixtures("during")
def test_a_training_leaves_metrics_a_checkpoint_an_export_and_a_summary(
    policy: str, tmp_path: Path
) -> None:
    summary, rows = trained(config(policy, tmp_path, evaluation_every=2))
    losses = {r["iteration"]: r["train/loss"] for r in rows if "train/loss" in r}
    assert losses == {1: 2.0, 2: 5.0, 3: 8.0, 4: 11.0}  # the mean of each three
    first = next(r for r in rows if r["iteration"] == 1)
    assert (first["train/updates"], first["train/tokens"], first["train/padding"]) == (3, 30, 0.25)
    looks = [r["weights/std"] for r in rows if "weights/std" in r]
    assert looks == [2.0, 5.0, 8.0, 11.0]  # of batches 2; 4 and 6; 8; 10 and 12
    assert [r["iteration"] for r in rows if "eval/nll" in r] == [0, 2, 4]
    assert all(r["eval/nll"] == 0.5 for r in rows if "eval/nll" in r)
    assert (summary["complete"], summary["batches"], summary["failed"]) == (True, 12, False)
    assert summary["updates"] == 12 and summary["eval/nll_end"] == 0.5
    export = tmp_path / "fitted" / "export"
    assert (export / "seen.txt").exists()
    said = json.loads((export / "lineage.json").read_text())
    examples = list(Solutions().batches(arithmetic_tokenizer(), 0))[:12]
    drawn = SamplesHash()
    assert len(list(drawn.passing(examples))) == 12
    assert said["data"]["train"] == {"sha256": drawn.hexdigest(), "batches": 12}
    assert said["data"]["held_out"]["sequences"] == 4
    assert said["parents"]["learner"]["sha256"] == hash_weights(Path(policy))
    assert "| negative log-likelihood, end | nll 0.500" in (export / "README.md").read_text()
    assert (tmp_path / "fitted" / "checkpoints" / "iteration-000004" / "manifest.json").exists()


@pytest.mark.usefixtures("during")
def test_a_reward_model_is_trained_on_preferences_and_measured(policy: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"prompt": "2+3", "chosen": "#5", "rejected": "#6"}
    path.write_text(f"{json.dumps(row)}\n{json.dumps({**row, 'prompt': '3+2'})}\n")
    template = PromptTemplate(text="{problem}\n")
    examples = Preferences(path=str(path), evaluation=str(path), template=template, batch=1)
    learner = LearnerConfig(model=ModelConfig(path=policy), head="token_classification")
    fitted = config(
        policy, tmp_path, learner=learner, loss=BradleyTerry(), examples=examples, iterations=1
    )
    summary, rows = trained(fitted)
    # The learner here scores every token the same: no pair is ordered.
    assert summary["eval/pair_accuracy_end"] == 0.5 and summary["batches"] == 2
    assert summary["eval/pair_loss_end"] == pytest.approx(np.log(2.0))
    assert [r["train/updates"] for r in rows if "train/updates" in r] == [2]


@pytest.mark.parametrize("at", [1, 4, 5, 12])
def test_stopped_and_resumed_is_the_same_as_uninterrupted(
    at: int, policy: str, tmp_path: Path, during: list[Callable[[int], None]]
) -> None:
    whole = trained(config(policy, tmp_path / "whole"))
    exported = (tmp_path / "whole" / "fitted" / "export" / "seen.txt").read_text()
    run = prepare_fit(config(policy, tmp_path / "cut"))
    during.append(lambda number: run.stopped.set() if number == at else None)
    summary = asyncio.run(run.run())
    # A stop ends the training when its iteration is done.
    assert (summary["complete"], summary["batches"]) == (False, 3 * ((at + 2) // 3))
    assert not (tmp_path / "cut" / "fitted" / "export" / "seen.txt").exists()
    during.clear()
    again = trained(config(policy, tmp_path / "cut", resume=True))
    assert (tmp_path / "cut" / "fitted" / "export" / "seen.txt").read_text() == exported
    exact = [
        [{n: v for n, v in row.items() if "time" not in n} for row in rows]
        for _, rows in (whole, again)
    ]
    assert exact[0] == exact[1]
    said = [
        json.loads((tmp_path / name / "fitted" / "export" / "lineage.json").read_text())
        for name in ("whole", "cut")
    ]
    for part in ("sha256", "data", "parents", "methods", "versions"):
        assert said[0][part] == said[1][part]
    assert said[0]["data"]["train"]["batches"] == 12 and said[0]["versions"] == {"updates": 12}


def test_what_was_not_measured_before_a_kill_is_measured_after_it(
    policy: str, tmp_path: Path, during: list[Callable[[int], None]]
) -> None:
    run = prepare_fit(config(policy, tmp_path, checkpoint_every=1))

    def killed(number: int) -> None:
        if number == 7:
            raise KeyboardInterrupt

    during.append(killed)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(run.run())
    during.clear()
    metrics = tmp_path / "fitted" / "metrics.jsonl"
    kept = [line for line in metrics.read_text().splitlines(True) if '"eval/nll"' not in line]
    metrics.write_text("".join(kept))  # as if it was killed before it measured
    _, rows = trained(config(policy, tmp_path, resume=True))
    assert [r["iteration"] for r in rows if "eval/nll" in r] == [2, 3, 4]
    assert [r["iteration"] for r in rows if "train/loss" in r] == [1, 2, 3, 4]


@pytest.mark.usefixtures("during")
def test_examples_may_end_before_the_iterations(policy: str, tmp_path: Path) -> None:
    summary, rows = trained(config(policy, tmp_path, examples=Solutions(updates=7)))
    assert (summary["batches"], summary["complete"]) == (7, True)
    assert [r["train/updates"] for r in rows if "train/updates" in r] == [3, 3, 1]


@pytest.mark.usefixtures("during")
def test_it_begins_with_a_model_that_it_writes_once(tmp_path: Path) -> None:
    fresh = config("", tmp_path, start=Written(), iterations=1)
    trained(fresh)
    weights = tmp_path / "fitted" / "start" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    trained(replace(fresh, iterations=2, resume=True))
    assert weights.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"examples": Solutions(updates=0)}, "examples Solutions has no batch"),
        ({"loss": Dpo()}, "loss Dpo takes PairSamples, but examples Solutions makes LabelSamples"),
        (
            {"loss": StepLabelLoss()},
            "loss StepLabelLoss is of a scalar head's numbers, and learner.head is"
            " 'language_model'; the nearest valid value is 'token_classification'",
        ),
        (
            {"learner": LearnerConfig(model=ModelConfig(path="/x"), head="two_label")},
            "loss CrossEntropy is of a policy's logprobs, and learner.head is 'two_label'; the"
            " nearest valid value is 'language_model'",
        ),
        ({"iterations": 0}, "iterations is 0; the smallest valid value is 1"),
        ({"updates_per_iteration": 0}, "updates_per_iteration is 0"),
        ({"run_dir": "runs"}, "run_dir is 'runs'; it must be absolute"),
        ({"learner": LearnerConfig(model=ModelConfig(path=""))}, "learner.model.path is ''"),
        ({"learner": LearnerConfig(model=ModelConfig(path="/no/such"))}, "/no/such"),
        ({"sinks": ()}, "sinks has no Files"),
    ],
)
def test_what_is_refused_before_anything_starts(
    fields: dict[str, Any], words: str, policy: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        prepare_fit(config(policy, tmp_path, **fields))
    assert not (tmp_path / "fitted").exists()


@pytest.mark.usefixtures("during")
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"seed": 1}, "seed is 1, and was 0"),
        ({"examples": Solutions(updates=999)}, "examples.updates is 999, and was 1000"),
        ({"iterations": 4}, "iterations is 4, and the run has done 4 and is complete"),
    ],
)
def test_what_may_not_change_on_resume(
    fields: dict[str, Any], words: str, policy: str, tmp_path: Path
) -> None:
    trained(config(policy, tmp_path))
    with pytest.raises(ValueError, match=words):
        prepare_fit(config(policy, tmp_path, **{"iterations": 8, "resume": True, **fields}))


@pytest.mark.usefixtures("during")
@pytest.mark.parametrize("head", ["language_model", "token_classification"])
@pytest.mark.parametrize("verb", ["train", "eval", "sft", "fit", ""])
def test_a_verb_is_for_its_kind_of_model(
    head: str, verb: str, policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = head == "token_classification"
    learner = LearnerConfig(model=ModelConfig(path=policy), head=head)  # type: ignore[arg-type]
    recipe = config(
        policy, tmp_path, learner=learner, loss=StepLabelLoss() if scores else CrossEntropy()
    )
    status = run_recipe(lambda: recipe, ["--iterations", "1"], verb=verb)
    right = "fit" if scores else "sft"
    assert status == (0 if verb in ("", right) else 2)
    if status:
        assert f"rlstep {right}" in capsys.readouterr().err


def test_the_plan_says_what_there_is(
    policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_recipe(lambda: config(policy, tmp_path), ["--dry-run"], verb="sft") == 0
    out = capsys.readouterr().out
    assert "2 sequences in the first batch, 4 held out" in out and "learner" in out
    assert not (tmp_path / "fitted").exists()


def test_the_tokenizer_is_the_models(policy: str) -> None:
    assert fitting.load_tokenizer(policy).get_vocab() == arithmetic_tokenizer().get_vocab()  # type: ignore[attr-defined]


# --- saving and stopping -------------------------------------------------------------------------


def test_a_checkpoint_of_a_training_is_never_long_ago(
    policy: str, tmp_path: Path, during: list[Callable[[int], None]]
) -> None:
    run = prepare_fit(config(policy, tmp_path, checkpoint_seconds=100.0))
    now, kept = [0.0], set[str]()

    def pass_time(_: int) -> None:
        now[0] += 20.0
        kept.update(path.name for path in run.directory.checkpoints.glob("iteration-*"))

    run.clock = lambda: now[0]
    during.append(pass_time)
    asyncio.run(run.run())
    # Three batches an iteration are 60 s: after two iterations 120 s are over 100, and at the end.
    kept.update(path.name for path in run.directory.checkpoints.glob("iteration-*"))
    assert kept == {"iteration-000002", "iteration-000004"}


@pytest.mark.usefixtures("during")
def test_as_many_checkpoints_of_a_training_stay_as_are_to_be_kept(
    policy: str, tmp_path: Path
) -> None:
    run = prepare_fit(config(policy, tmp_path, checkpoint_every=1, checkpoint_keep=3))
    asyncio.run(run.run())
    kept = sorted(path.name for path in run.directory.checkpoints.iterdir())
    assert kept == [f"iteration-00000{number}" for number in (2, 3, 4)]


@pytest.mark.parametrize("batch", [7, 8])
def test_a_training_that_fails_in_an_iteration_says_that_it_is_not_saved(
    policy: str,
    tmp_path: Path,
    during: list[Callable[[int], None]],
    caplog: pytest.LogCaptureFixture,
    batch: int,
) -> None:
    def fail(number: int) -> None:
        if number == batch:
            raise RuntimeError("rank 0 is lost")

    during.append(fail)
    run = prepare_fit(config(policy, tmp_path))
    with pytest.raises(RuntimeError, match="rank 0 is lost"):
        asyncio.run(run.run())
    assert not list(run.directory.checkpoints.iterdir())
    assert "an iteration failed in its middle, and is not saved" in caplog.text


@pytest.mark.usefixtures("during")
def test_a_training_that_fails_between_iterations_is_saved(
    policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = Learner.predict

    async def fail(self: Learner, rows: Sequence[Any]) -> list[Any]:
        if self.trained == 6:
            raise RuntimeError("predict failed")
        return await predict(self, rows)

    monkeypatch.setattr(Learner, "predict", fail)
    run = prepare_fit(config(policy, tmp_path))
    with pytest.raises(RuntimeError, match="predict failed"):
        asyncio.run(run.run())
    assert [path.name for path in run.directory.checkpoints.iterdir()] == ["iteration-000002"]
    monkeypatch.setattr(Learner, "predict", predict)
    summary, rows = trained(config(policy, tmp_path, resume=True))
    assert summary["complete"]
    assert [r["iteration"] for r in rows if "train/loss" in r] == [1, 2, 3, 4]


@pytest.mark.usefixtures("during")
@pytest.mark.parametrize("verb", ["start", "predict", "export"])
def test_a_stop_is_heeded_wherever_a_training_is(
    policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    from rlstep.actors.learner.learner_group import LearnerGroup

    run = prepare_fit(config(policy, tmp_path))

    async def endless(*_: Any, **__: Any) -> None:
        run.stopped.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(LearnerGroup if verb == "start" else Learner, verb, endless)
    assert asyncio.run(run.run())["complete"] is False
    assert not list(run.directory.export.glob("*.safetensors"))


def test_what_a_resumed_training_changes_is_said(
    policy: str,
    tmp_path: Path,
    during: list[Callable[[int], None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained(config(policy, tmp_path))
    capsys.readouterr()
    trained(config(policy, tmp_path, iterations=5, resume=True))
    assert "resumed with iterations 5 (was 4)\n" in capsys.readouterr().out
    assert not during
