"""Samples of an evaluation: what is measured of them, what is kept, and what is taken over."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from rlstep.config import EvaluationConfig, HeldOutSet
from rlstep.interfaces import PromptSet
from rlstep.plugins import PlugInError
from rlstep.reporting.evaluated import PLOT
from rlstep.reporting.run_directory import RunDirectory
from rlstep.running.checkpoint import Checkpoints
from rlstep.running.evaluating import HeldOut
from rlstep.running.run import Run
from rlstep.tasks.arithmetic import Arithmetic
from rlstep.testing.roles import TOKENIZER, FakeGenerator, FakeRoles, FakeScorer
from tests.running.test_run_evaluation import CONFIG, PROMPTS, Records

LONGER = Arithmetic(operations=3, train=4, evaluation=2)
EVALUATION = EvaluationConfig(problems=6, prm_problems=3, samples=4)


def answering(prefix: str, child: int, seed: int) -> str:
    """Right in every other sample, beginning with a right one."""
    terms = prefix.strip()
    value = _worked(terms)
    return f"{terms}={value}\n#{value if child % 2 == 0 else value + 1}"


def _worked(text: str) -> int:
    from rlstep.tasks.arithmetic import chain

    return chain(f"{text}\n")[1][-1]


def first_is_best(rollout: Any) -> list[float]:
    """Step scores that put every problem's first sample first."""
    return [1.0 - rollout.sample_index / 10] * len(rollout.steps)


def measuring(
    directory: RunDirectory, generator: FakeGenerator | None = None, **evaluation: Any
) -> tuple[HeldOut, FakeGenerator]:
    config = replace(CONFIG, evaluation=replace(EVALUATION, **evaluation))
    generator = generator or FakeGenerator(answering)
    prompts = PROMPTS
    if config.evaluation.sets:
        loaded = LONGER.load(TOKENIZER, 64).evaluation
        named = [replace(p, prompt_id=f"longer/{p.prompt_id}") for p in loaded]
        prompts = PromptSet(train=(), evaluation=PROMPTS.evaluation, sets={"longer": named})
    roles: Any = FakeRoles(config, generator, FakeScorer(prm=first_is_best))
    held_out = HeldOut(
        config=config,
        prompts=prompts,
        directory=directory,
        roles=roles,
        step_models=config.step_models,
    )
    return held_out, generator


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, "run")


async def test_greedy_and_sampled_figures_beside_each_other(directory: RunDirectory):
    held_out, generator = measuring(directory)
    metrics = (await held_out.measure(0)).metrics
    # Every first answer is right: greedy 1, half of the samples, all of 4 at least once.
    assert metrics["eval/accuracy"] == 1.0
    assert metrics["eval/sampled/accuracy"] == 0.5
    assert metrics["eval/sampled/accuracy_standard_error"] == 0.0
    assert metrics["eval/sampled/pass"] == 1.0
    # Two right and two wrong votes, the first of equals wins, over all orders: half.
    assert metrics["eval/sampled/majority"] == 0.5
    assert metrics["eval/sampled/prm/best/min"] == 1.0
    assert metrics["eval/sampled/problems"] == 6 and metrics["eval/sampled/rollouts"] == 24
    assert metrics["eval/sampled/failures"] == 0
    sampled = [r for r in generator.asked if r.request_id.startswith("eval-samples0/")]
    assert len(sampled) == 6 and {r.n for r in sampled} == {4}
    assert {r.sampling.temperature for r in sampled} == {1.0}


async def test_without_samples_nothing_is_added(directory: RunDirectory):
    held_out, generator = measuring(directory, samples=0)
    metrics = (await held_out.measure(0)).metrics
    assert not [name for name in metrics if "sampled" in name]
    assert {r.request_id.partition("/")[0] for r in generator.asked} == {"eval0", "prm-probe0"}
    assert not directory.samples.path.exists()


async def test_a_sample_is_a_row(directory: RunDirectory):
    held_out, _ = measuring(directory)
    await held_out.measure(0)
    rows = list(directory.samples)
    assert len(rows) == 24
    row = next(r for r in rows if r["rollout_id"].endswith("/3"))
    assert row["verdict"] == "wrong" and row["value"] == 0.0 and row["failures"] == {}
    assert row["text"].endswith(f"#{row['answer']}")
    assert row["scores"]["prm"] == [pytest.approx(0.7)] * 2


async def test_what_an_earlier_life_sampled_is_taken_over(directory: RunDirectory):
    held_out, _ = measuring(directory)
    whole = (await held_out.measure(0)).metrics
    lines = directory.samples.path.read_text().splitlines(keepends=True)
    # Killed in the middle of the third problem, its last line torn.
    directory.samples.path.write_text("".join(lines[:10]) + lines[10][:20])
    held_out, generator = measuring(directory)
    again = (await held_out.measure(0)).metrics
    asked = {r.request_id for r in generator.asked if r.request_id.startswith("eval-samples0/")}
    done = {json.loads(line)["prompt_id"] for line in lines[:8]}
    assert len(asked) == 4 and not {f"eval-samples0/{name}" for name in done} & asked
    same = [name for name in whole if not name.startswith("time/")]
    assert [again[name] for name in same] == [whole[name] for name in same]
    assert sorted(map(str, directory.samples)) == sorted(str(json.loads(line)) for line in lines)


async def test_what_failed_is_counted_and_asked_again(directory: RunDirectory):
    first = PROMPTS.evaluation[0].prompt_id
    broken = FakeGenerator(answering, failing={f"eval-samples0/{first}"})
    held_out, _ = measuring(directory, broken)
    measured = await held_out.measure(0)
    assert measured.metrics["eval/sampled/failures/generator_lost"] == 1
    assert measured.metrics["eval/sampled/accuracy"] == 0.5
    assert {p.problems for p in measured.sets[0].curves["pass"]} == {5}
    held_out, generator = measuring(directory)
    assert (await held_out.measure(0)).metrics["eval/sampled/failures"] == 0
    assert [r.request_id for r in generator.asked if "samples" in r.request_id] == [
        f"eval-samples0/{first}"
    ]


async def test_too_many_failures_end_it(directory: RunDirectory):
    names = [f"eval-samples0/{p.prompt_id}" for p in PROMPTS.evaluation]
    held_out, _ = measuring(directory, FakeGenerator(answering, failing=set(names)))
    with pytest.raises(PlugInError, match="max_failed_scores"):
        await held_out.measure(0)


async def test_several_sets_in_one_batch(directory: RunDirectory):
    held_out, _ = measuring(directory, sets=(HeldOutSet(name="longer", task=LONGER),))
    measured = await held_out.measure(0)
    assert [(each.name, each.problems) for each in measured.sets] == [("", 6), ("longer", 2)]
    assert measured.metrics["eval/problems"] == 6
    assert measured.metrics["eval/longer/problems"] == 2
    assert measured.metrics["eval/longer/sampled/rollouts"] == 8
    rows = [row["prompt_id"] for row in directory.evaluations]
    assert len(rows) == 8 and sum(name.startswith("longer/") for name in rows) == 2


async def test_a_run_writes_figures_and_their_picture(directory: RunDirectory):
    _, generator = measuring(directory)
    run = Run(
        replace(CONFIG, evaluation=EVALUATION),
        TOKENIZER,
        PROMPTS,
        directory,
        Checkpoints(directory.checkpoints),
        None,
    )
    run.roles = cast(Any, FakeRoles(run.config, generator, FakeScorer(prm=first_is_best)))
    run.reporter = cast(Any, Records(directory))
    await run._evaluate(2)
    figures = json.loads(directory.figures.read_text())
    assert (figures["iteration"], figures["samples"]) == (2, 4)
    [own] = figures["sets"]
    assert own["greedy"]["value"] == 1.0
    assert [p["k"] for p in own["curves"]["pass"]] == [1, 2, 4]
    assert (directory.path / PLOT).read_bytes()[:4] == b"\x89PNG"
    directory.truncate_after(1)
    assert list(directory.samples) == []
