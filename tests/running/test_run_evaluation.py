"""What a run keeps of its evaluations (completions, the frozen probe of the PRM), and stops in
them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rlstep.config import EvaluationConfig, LearnerConfig, ModelConfig
from rlstep.losses.step_label import StepLabelLoss
from rlstep.measuring.monitors import Monitors, Thresholds
from rlstep.reporting.disk import DiskFull
from rlstep.reporting.run_directory import RunDirectory
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.rollouts.step_beam import StepBeam
from rlstep.running.checkpoint import Checkpoints, RunState
from rlstep.running.run import Run
from rlstep.scoring.step_models.prm import Prm
from rlstep.tasks.arithmetic import Arithmetic
from rlstep.testing.roles import TOKENIZER, FakeGenerator, FakeRoles, FakeScorer
from rlstep.testing.small import small_config
from rlstep.types import Group, Prompt, Request, Sampling

TASK = Arithmetic(operations=2, train=4, evaluation=8)
PROMPTS = TASK.load(TOKENIZER, 64)
SCALAR = LearnerConfig(model=ModelConfig(path="/nowhere"), head="token_classification")
CONFIG = small_config(
    task=TASK,
    labellers=(MonteCarlo(),),
    step_models=(Prm(learner=SCALAR, loss=StepLabelLoss()),),
    evaluation=EvaluationConfig(problems=6, prm_problems=3),
    monitors=Monitors(thresholds=Thresholds(drift=0.2)),
)


class Records:
    """The reporter of a test."""

    def __init__(self, directory: RunDirectory | None = None) -> None:
        self.records: list[dict[str, Any]] = []
        self.directory = directory

    def iteration(self, record: dict[str, Any], groups: Any = ()) -> None:
        self.records.append(record)
        if self.directory:
            self.directory.metrics.append(record)


def started(directory: RunDirectory, *scores: float) -> tuple[Run, FakeGenerator]:
    """A run whose PRM scores the two steps so; the first line of every answer is wrong."""
    generator = FakeGenerator(lambda prefix, child, seed: f"1+{child}=0\n#{seed % 1000}")
    scorer = FakeScorer(prm=lambda rollout: scores)
    run = Run(CONFIG, TOKENIZER, PROMPTS, directory, Checkpoints(directory.checkpoints), None)
    run.roles, run.reporter = cast(Any, FakeRoles(CONFIG, generator, scorer)), cast(Any, Records())
    return run, generator


async def test_the_probe_is_sampled_once_in_the_life_of_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    directory = RunDirectory.create(tmp_path, "run")
    first, generator = started(directory, 0.25, 0.75)
    await first._evaluate(0)
    probed = [r for r in generator.asked if r.request_id.startswith("prm-probe0/")]
    held_out = {f"prm-probe0/{p.prompt_id}" for p in PROMPTS.evaluation[:3]}
    assert {r.request_id for r in probed} == held_out and all(r.n == 4 for r in probed)
    assert not {p.prompt_id for p in PROMPTS.train} & {p.prompt_id for p in PROMPTS.evaluation}
    frozen = directory.probe.read_bytes()

    # Resumed in another process, by now with a PRM that scores 0.75 and 0.5.
    second, generator = started(RunDirectory.reopen(tmp_path, "run"), 0.75, 0.5)
    await second._evaluate(4)
    assert not [r for r in generator.asked if r.request_id.startswith("prm-probe")]
    assert directory.probe.read_bytes() == frozen
    (before,), (after,) = cast(Any, first.reporter).records, cast(Any, second.reporter).records
    assert (before["prm/drift"], before["alarm/drift"]) == (0.0, 0.0)
    assert (after["prm/drift"], after["alarm/drift"]) == (0.375, 1.0)
    # Every first step is wrong, and nothing is probed behind it: 12 chains, as many steps.
    assert before["prm/probe_steps"] == before["prm/probe_chains"] == 12
    assert (before["prm/ece"], after["prm/ece"]) == (0.25, 0.75)
    assert "alarm: drift is 0.375, above its threshold 0.2" in caplog.text


async def test_drift_is_from_when_the_prm_first_told_steps_apart(tmp_path: Path):
    directory, drifts = RunDirectory.create(tmp_path, "run"), []
    for iteration, scores in enumerate([(0.5, 0.5), (0.5, 0.5), (0.75, 0.25), (0.25, 0.25)]):
        run, _ = started(directory, *scores)
        await run._evaluate(iteration)
        drifts.append(cast(Any, run.reporter).records[0]["prm/drift"])
    assert drifts == [0.0, 0.0, 0.0, 0.25]


async def test_a_run_without_a_prm_has_no_probe(tmp_path: Path):
    directory = RunDirectory.create(tmp_path, "run")
    run, generator = started(directory, 0.5, 0.5)
    run.config = small_config(task=TASK)
    await run._evaluate(0)
    assert not directory.probe.exists()
    assert {r.request_id.partition("/")[0] for r in generator.asked} == {"eval0"}


async def test_held_out_problems_are_answered_as_the_evaluation_says(tmp_path: Path):
    """The second of each two candidates is valued, and right: the group is what is answered."""
    directory = RunDirectory.create(tmp_path, "run")
    run, generator = started(directory)
    beam = StepBeam(sampling=Sampling(max_tokens=64), width=1, candidates=2)
    answering = EvaluationConfig(problems=6, prm_problems=0, rollouts=beam)
    run.config = replace(CONFIG, evaluation=answering)
    answers = {p.text: p.answer for p in PROMPTS.evaluation}
    generator.write = lambda prefix, child, seed: f"#{answers[prefix] if child else 'x'}"
    cast(Any, run.roles).scorer.prm = lambda rollout: [float("x" not in rollout.completion.text)]
    await run._evaluate(0)
    [record] = cast(Any, run.reporter).records
    assert (record["eval/accuracy"], record["eval/rollouts"]) == (1.0, 6)
    assert record["eval/score/sampled_tokens"] > record["eval/tokens_mean"]
    assert all(r.request_id.startswith("eval0/") and r.n == 2 for r in generator.asked)


@dataclass(frozen=True, kw_only=True)
class Skips(Independent):
    """Yields no group of its first prompt, or that of the last one twice."""

    twice: bool = False

    async def collect(self, prompts: Sequence[Prompt], context: Any) -> AsyncIterator[Group]:
        groups = [group async for group in super().collect(prompts, context)]
        for group in [*groups, groups[-1]] if self.twice else groups[1:]:
            yield group


@pytest.mark.parametrize(("twice", "message"), [(False, "5 groups .* none of 1;"), (True, "7 gro")])
async def test_a_strategy_owes_a_group_of_every_held_out_problem(
    twice: bool, message: str, tmp_path: Path
):
    run, _ = started(RunDirectory.create(tmp_path, "run"))
    answering = Skips(samples_per_prompt=1, sampling=Sampling(max_tokens=64), twice=twice)
    evaluation = EvaluationConfig(problems=6, prm_problems=0, rollouts=answering)
    run.config = replace(CONFIG, evaluation=evaluation)
    with pytest.raises(RuntimeError, match=f"rollouts Skips yielded {message}"):
        await run._evaluate(0)


# --- a stop during an evaluation -----------------------------------------------------------------


class Held(FakeGenerator):
    """Answers nothing in the evaluation of one iteration, and tells that it was asked."""

    def __init__(self, iteration: int | None) -> None:
        super().__init__(lambda prefix, child, seed: f"2+3=5\n#{child}")
        self.iteration, self.held = iteration, asyncio.Event()

    async def generate(self, requests: Sequence[Request]) -> AsyncIterator[Any]:
        if any(r.request_id.startswith(f"eval{self.iteration}/") for r in requests):
            self.held.set()
            await asyncio.Event().wait()
        async for answer in super().generate(requests):
            yield answer


async def lived(
    directory: RunDirectory,
    held: int | None,
    state: RunState,
    full_at: int | None = None,
    **fields: Any,
) -> tuple[Run, dict[str, Any]]:
    """A run of three iterations with an evaluation after each; stopped in the held one. The disk is
    full when the checkpoint of iteration `full_at` is written."""
    config = small_config(task=TASK, evaluation=EvaluationConfig(every=1), **fields)
    generator = Held(held)
    run = Run(config, TOKENIZER, PROMPTS, directory, Checkpoints(directory.checkpoints), None)
    roles: Any = FakeRoles(config, generator, FakeScorer())
    roles.between_updates = asyncio.Event()
    roles.between_updates.set()

    async def save(folder: Path) -> None:
        (folder / "weights").write_text("w")
        if run.state.iteration == full_at:
            raise DiskFull(folder, 1)

    roles.save = save
    roles.policy = SimpleNamespace(export=lambda path: asyncio.sleep(0, exported.append(path)))
    roles.scorer.versions = {}
    roles.sync = SimpleNamespace(max_parity_error=0.0)
    roles.generators = SimpleNamespace(recoveries=0)
    exported: list[str] = []
    run.roles = roles
    directory.truncate_after(state.iteration or -1)  # as a Reporter does
    reporter: Any = Records(directory)
    reporter.add_to_summary = lambda **_: None
    run.reporter = reporter

    async def live() -> dict[str, Any]:
        return await run._finish(await run._train(state))

    living = asyncio.create_task(live())
    holding = asyncio.create_task(generator.held.wait())
    await asyncio.wait({living, holding}, return_when=asyncio.FIRST_COMPLETED)
    holding.cancel()
    run.stopped.set() if held is not None else None
    summary = await living
    assert bool(exported) == summary["complete"]
    return run, summary


@pytest.mark.parametrize(
    ("held", "saved"),
    [(0, []), (1, [1]), (2, [2]), (3, [3])],
    ids=["first", "second", "third", "last"],
)
async def test_a_stop_counts_in_every_evaluation(held: int, saved: list[int], tmp_path: Path):
    """No checkpoint of nothing; the last evaluation of a run that was stopped in it is still to
    come when it is resumed."""
    directory = RunDirectory.create(tmp_path, "run")
    run, summary = await lived(directory, held, RunState(iteration=0))
    assert not summary["complete"]
    found = run.checkpoints.latest_valid()
    assert ([found.state.iteration] if found else []) == saved
    state = found.state if found else RunState(iteration=0)
    again, summary = await lived(directory, None, state)
    assert summary["complete"] and again.state.iteration == 3
    assert evaluated(directory) == [0, 1, 2, 3]
    await lived(directory, None, again.state)  # as after a kill during the export
    assert evaluated(directory) == [0, 1, 2, 3]


def evaluated(directory: RunDirectory) -> list[int]:
    """Iterations with an evaluation in the metrics; each has its completions once."""
    found = [row["iteration"] for row in directory.metrics if "time/evaluation" in row]
    completions = [row["iteration"] for row in directory.evaluations]
    assert completions == [iteration for iteration in found for _ in PROMPTS.evaluation]
    return found


async def test_completions_of_an_evaluation_that_was_not_measured_are_made_again(tmp_path: Path):
    """As after a kill between the two files."""
    directory = RunDirectory.create(tmp_path, "run")
    await lived(directory, 2, RunState(iteration=0))
    directory.evaluations.append({"iteration": 2, "prompt_id": "half"})
    await lived(directory, None, RunState(iteration=2))
    assert evaluated(directory) == [0, 1, 2, 3]


async def test_a_run_goes_on_after_a_checkpoint_that_found_the_disk_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """And the next one is made."""
    directory = RunDirectory.create(tmp_path, "run")
    run, summary = await lived(
        directory, None, RunState(iteration=0), full_at=2, checkpoint_every=1
    )
    assert summary["complete"] and run.state.iteration == run.saved_at == 3
    kept = sorted(path.name for path in directory.checkpoints.iterdir())
    assert kept == ["iteration-000001", "iteration-000003"]
    assert "'; the run goes on, and the next checkpoint is tried again" in caplog.text


async def test_a_stop_before_the_first_evaluation_counts(tmp_path: Path):
    directory = RunDirectory.create(tmp_path, "run")
    run, _ = started(directory, 0.5, 0.5)
    cast(Any, run.roles).between_updates = asyncio.Event()
    cast(Any, run.roles).between_updates.set()
    run.stopped.set()
    assert (await run._train(RunState(iteration=0))).iteration == 0


async def test_evaluated_completions_are_written(tmp_path: Path):
    directory = RunDirectory.create(tmp_path, "run")
    run, _ = started(directory, 0.25, 0.75)
    for iteration in (0, 4):
        await run._evaluate(iteration)
    rows = list(directory.evaluations)
    assert [row["iteration"] for row in rows] == [0] * 6 + [4] * 6
    assert {row["prompt_id"] for row in rows} == {p.prompt_id for p in PROMPTS.evaluation[:6]}
    wanted = {"rollout_id", "prompt", "steps", "answer", "reference", "verdict", "first_error"}
    assert wanted <= set(rows[0]) and rows[0]["first_error"] == 0
    directory.metrics.append({"iteration": 0, "time/evaluation": 1.0})
    directory.truncate_after(0)
    assert len(list(directory.evaluations)) == 6


async def test_a_run_starts_no_iteration_after_its_tokens(tmp_path: Path):
    """What is sampled for evaluations is not of them."""
    whole, summary = await lived(
        RunDirectory.create(tmp_path, "whole"), None, RunState(iteration=0)
    )
    assert whole.state.iteration == 3
    each = summary["train_tokens"] // 3
    assert each > 0 and summary["train_tokens"] == 3 * each == whole.state.counters["train_tokens"]
    for budget, iterations in ((each, 1), (each + 1, 2), (2 * each, 2)):
        directory = RunDirectory.create(tmp_path, f"of-{budget}-{iterations}")
        run, summary = await lived(directory, None, RunState(iteration=0), train_tokens=budget)
        assert run.state.iteration == iterations and summary["complete"]
        assert summary["train_tokens"] == iterations * each
