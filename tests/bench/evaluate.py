"""Rollouts/s of an evaluation with n samples of a problem over those of a bare `vllm.LLM.generate`.

    PYTHONPATH=. python tests/bench/evaluate.py [--rounds 4] [--samples 64] [--json FILE]

Same engine arguments, threads, prompts, seeds and lengths; the sides alternate in one run. The
evaluation's side is all of it: requests, verdicts, rows on the disk, the greedy completions beside
the samples, curves. The bare side returns vLLM's own outputs. Beside both the path without samples:
one greedy completion of each problem. How much faster than that a sample can be made is bounded by
the bare engine, which is printed too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlstep.actors.generator.generator import (
    engine_arguments,
    engine_environment,
    sampling_parameters,
)
from rlstep.cli import load_recipe
from rlstep.config import Config, EvaluationConfig
from rlstep.interfaces import PromptSet
from rlstep.reporting.run_directory import RunDirectory
from rlstep.rollouts.requests import prompt_request
from rlstep.running.evaluating import SAMPLES, HeldOut
from rlstep.running.preparing import load_prompts, load_tokenizer

RECIPE = str(Path(__file__).parents[2] / "recipes" / "arithmetic_grpo.py")
PROBLEMS, WARM_UP, GREEDY = 32, 4, 512
"""Of a round, of the one that warms both sides up, and of the path without samples."""


@dataclass(frozen=True)
class Round:
    """Rollouts/s of one round."""

    evaluation: float
    bare: float
    greedy: float


async def evaluated(held_out: HeldOut, iteration: int) -> float:
    started = time.perf_counter()
    measured = await held_out.measure(iteration)
    seconds = time.perf_counter() - started
    metrics = measured.metrics
    assert not metrics["eval/failures"] and not metrics.get("eval/sampled/failures")
    return (metrics["eval/rollouts"] + metrics.get("eval/sampled/rollouts", 0.0)) / seconds


def bare(engine: Any, held_out: HeldOut, iteration: int) -> float:
    """What the evaluation asks for, but for the greedy completions."""
    context = held_out.roles.context(iteration, SAMPLES)
    config = held_out.config
    asked = [
        prompt_request(prompt, config.evaluation.samples, config.rollouts.sampling, context)
        for prompt in held_out.prompts.evaluation
    ]
    prompts = [{"prompt_token_ids": request.prefix_ids.tolist()} for request in asked]
    parameters = [sampling_parameters(request) for request in asked]
    started = time.perf_counter()
    outputs = engine.generate(prompts, parameters, use_tqdm=False)
    return sum(len(output.outputs) for output in outputs) / (time.perf_counter() - started)


async def measure(config: Config, rounds: int, folder: Path) -> list[Round]:
    import ray
    from vllm import LLM

    from rlstep.actors.serving_roles import ServingRoles

    tokenizer = load_tokenizer(config.policy.model.path)
    loaded = load_prompts(config, tokenizer, trains=False)
    ray.init(address="local", logging_level=logging.WARNING)
    roles = ServingRoles(config, tokenizer)
    await roles.serve()
    engine: Any = LLM(**engine_arguments(config.generator, config.policy.model.path))
    figures, problems = list[Round](), loaded.evaluation
    print(f"{'round':>5} {'evaluation':>11} {'bare vLLM':>10} {'greedy':>8} {'over bare':>10}")
    for number in range(rounds + 1):
        share = problems[number * PROBLEMS :][:PROBLEMS] if number else problems[:WARM_UP]
        prompts = PromptSet(train=(), evaluation=share)
        held_out = HeldOut(
            config=config,
            prompts=prompts,
            directory=RunDirectory.create(folder, f"sampled-{number}"),
            roles=roles,
            step_models=(),
        )
        alone = replace(
            held_out,
            config=replace(config, evaluation=replace(config.evaluation, samples=0)),
            prompts=replace(loaded, evaluation=problems[:GREEDY] if number else share),
            directory=RunDirectory.create(folder, f"greedy-{number}"),
        )
        ours, theirs = await evaluated(held_out, number), bare(engine, held_out, number)
        each = Round(ours, theirs, await evaluated(alone, number))
        if number:
            figures.append(each)
            rates = f"{each.evaluation:>11.0f} {each.bare:>10.0f} {each.greedy:>8.0f}"
            print(f"{number:>5} {rates} {each.evaluation / each.bare:>10.3f}", flush=True)
    await roles.close()
    ray.shutdown()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    recipe = load_recipe(RECIPE)
    task: Any = recipe.task
    config = replace(
        recipe,
        task=replace(task, evaluation=max(GREEDY, PROBLEMS * (options.rounds + 1))),
        evaluation=EvaluationConfig(samples=options.samples),
    )
    os.environ.update(engine_environment(config.generator))
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(config, options.rounds, Path(folder)))
    over_bare = statistics.median(each.evaluation / each.bare for each in figures)
    over_greedy = statistics.median(each.evaluation / each.greedy for each in figures)
    bound = statistics.median(each.bare / each.greedy for each in figures)
    print(f"rollouts/s over bare vLLM with n = {options.samples}: {over_bare:.3f} (median)")
    print(f"over one greedy completion a problem: {over_greedy:.2f}; a bare engine: {bound:.2f}")
    if options.json:
        result = {"ratio": over_bare, "over_greedy": over_greedy, "bound": bound}
        options.json.write_text(json.dumps({**result, "pairs": len(figures)}))


if __name__ == "__main__":
    main()
