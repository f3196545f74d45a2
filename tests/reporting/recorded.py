"""A small run on disk, written by the writers that a run uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rlstep.config import Config
from rlstep.reporting.reporter import Reporter
from rlstep.reporting.rows import rollout_rows
from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.sinks.files import Files
from rlstep.testing.small import small_config
from rlstep.types import Failure, Group, OutcomeScore, Prompt, Rollout, Verdict
from tests.builders import make_prompt, make_rollout, make_step_scores, make_text_rollout

ITERATIONS = 3


class Oracle:
    """A step with an 'x' is wrong."""

    def first_error(self, prompt: Prompt, step_texts: Sequence[str]) -> int | None:
        wrong = [i for i, text in enumerate(step_texts) if "x" in text]
        return wrong[0] if wrong else None


def rollout(
    prompt: Prompt, name: str, lines: Sequence[str], prm: Sequence[float] | None, right: bool
) -> Rollout:
    """With step scores, or with none where the PRM failed."""
    verdict = Verdict.CORRECT if right else Verdict.WRONG
    outcome = OutcomeScore(value=float(right), verdict=verdict, extracted=lines[-1])
    scores = Failure(reason="timeout") if prm is None else make_step_scores(prm)
    made = replace(make_text_rollout(prompt, lines), rollout_id=name)
    return made.with_scores(outcome=outcome, prm=scores)


def groups(iteration: int, lines: Sequence[str] = ("1+1=2\n", "2+2=x\n", "#4")) -> list[Group]:
    """Two prompts of an iteration: one of three rollouts and a failure, one of a single rollout."""
    mixed, plain = make_prompt(f"mixed-{iteration}"), make_prompt(f"plain-{iteration}")
    name = f"{iteration}/{mixed.prompt_id}"
    rollouts = (
        rollout(mixed, f"{name}/0", lines, [0.9, 0.1, 0.7], right=False),
        rollout(mixed, f"{name}/1", ["1+1=2\n", "#2"], [0.9, 0.5], right=True),
        rollout(mixed, f"{name}/2", ["1+1=2\n", "#2"], None, right=True),
    )
    lost = Failure(reason="generator_lost", detail="a node went away")
    one = rollout(plain, f"{iteration}/{plain.prompt_id}/0", ["#1"], [0.3], right=True)
    return [
        Group(prompt=mixed, rollouts=rollouts, failures=(lost,)),
        Group(prompt=plain, rollouts=(one,)),
    ]


def record_run(
    root: Path,
    name: str = "demo",
    *,
    oracle: Oracle | None = None,
    config: Config | None = None,
    recipe: Config | None = None,
    lines: Sequence[str] = ("1+1=2\n", "2+2=x\n", "#4"),
    evaluated: bool = False,
) -> RunDirectory:
    """A complete run of three iterations.

    Args:
        evaluated: before the first and after the last one, with completions of three problems: at
            the start all wrong, at the end two of them right.
    """
    run = RunDirectory.create(root, name)
    reporter = Reporter(
        run,
        config or small_config(name=name),
        iterations=ITERATIONS,
        oracle=oracle,
        recipe=recipe,
        sinks=[Files()],
    )
    with reporter:
        reporter.iteration({"iteration": 0, "eval/accuracy": 0.25, "eval/problems": 8})
        for iteration in range(1, ITERATIONS + 1):
            reporter.iteration(
                {"iteration": iteration, "rollout/rollouts": 4, "rollout/accuracy": 0.75},
                groups(iteration, lines),
            )
        if evaluated:
            reporter.iteration({"iteration": ITERATIONS, "eval/accuracy": 2 / 3})
        reporter.add_to_summary(complete=True)
    for iteration in (0, ITERATIONS) if evaluated else ():
        run.evaluations.append(*rollout_rows(iteration, held_out(iteration, lines), oracle))
    return run


def conversation(iteration: int) -> Group:
    """A prompt's one rollout of two turns, with what was observed before and between them."""
    made = make_rollout(
        f"{iteration}/talk/0",
        [[11], [12, 13]],
        observed={-1: [31], 0: [32, 33]},
        outcome=0.0,
        scores={"prm": [0.9, 0.1]},
        prompt=make_prompt("talk"),
    )
    return Group(prompt=made.prompt, rollouts=(made,))


def held_out(iteration: int, lines: Sequence[str]) -> list[Group]:
    made = []
    for i in range(3):
        prompt, right = make_prompt(f"held-{i}"), iteration > 0 and i != 1
        name = f"{iteration}/held-{i}/eval"
        written = ["1+1=2\n", "#2"] if right else lines
        made.append(Group(prompt=prompt, rollouts=(rollout(prompt, name, written, None, right),)))
    return made
