"""Tokens/s through the generator role over tokens/s of a bare `vllm.LLM.generate`.

    python tests/bench/generator.py [--rounds 5] [--json FILE]

Same engine arguments, threads, prompts, seeds and forced lengths; the two sides alternate in one
run. The role's side is timed by the driver's clock, from the requests to the last completion record
(with its text, logprobs and version spans); the bare side returns vLLM's own outputs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from rlstep.actors.generator.generator import (
    engine_arguments,
    engine_environment,
    sampling_parameters,
)
from rlstep.config import GeneratorConfig
from rlstep.types import Request, Sampling

POLICY = str(Path(__file__).parents[2] / "recipes" / "policies" / "arithmetic")
CONFIG = GeneratorConfig(context=128, kv_cache_mib=128, threads=1)
PROMPTS, SAMPLES, PROMPT_TOKENS, COMPLETION_TOKENS = 64, 8, 20, 48


def requests(round_number: int) -> list[Request]:
    """Fresh prompts in every round, so that no cache helps either side."""
    random = np.random.default_rng(round_number)
    sampling = Sampling(max_tokens=COMPLETION_TOKENS, min_tokens=COMPLETION_TOKENS)
    return [
        Request(
            request_id=f"{round_number}/{i}",
            prefix_ids=random.integers(2, 18, PROMPT_TOKENS).astype(np.int32),
            n=SAMPLES,
            seed=1000 * round_number + 10 * i,
            sampling=sampling,
        )
        for i in range(PROMPTS)
    ]


async def through_the_role(group: Any, asked: list[Request]) -> float:
    started = time.perf_counter()
    tokens = 0
    async for _, answer in group.generate(asked):
        tokens += sum(len(completion.token_ids) for completion in answer)
    assert tokens == PROMPTS * SAMPLES * COMPLETION_TOKENS
    return tokens / (time.perf_counter() - started)


def bare(engine: Any, asked: list[Request]) -> float:
    prompts = [{"prompt_token_ids": request.prefix_ids.tolist()} for request in asked]
    parameters = [sampling_parameters(request) for request in asked]
    started = time.perf_counter()
    outputs = engine.generate(prompts, parameters, use_tqdm=False)
    tokens = sum(len(child.token_ids) for output in outputs for child in output.outputs)
    assert tokens == PROMPTS * SAMPLES * COMPLETION_TOKENS
    return tokens / (time.perf_counter() - started)


async def measure(rounds: int) -> list[tuple[float, float]]:
    """(role, bare) tokens/s of every round; the first round of each side warms up."""
    import ray
    from vllm import LLM

    from rlstep.actors.generator.generator_group import GeneratorGroup

    ray.init(address="local", logging_level=logging.WARNING)
    group = GeneratorGroup(CONFIG, POLICY, {})
    await group.start()
    engine: Any = LLM(**engine_arguments(CONFIG, POLICY))
    figures = []
    for number in range(rounds + 1):
        asked = requests(number)
        pair = (await through_the_role(group, asked), bare(engine, asked))
        if number:
            figures.append(pair)
    await group.close()
    ray.shutdown()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ.update(engine_environment(CONFIG))
    figures = asyncio.run(measure(options.rounds))
    print(f"{'round':>5} {'role tokens/s':>14} {'bare tokens/s':>14} {'ratio':>6}")
    for number, (ours, baseline) in enumerate(figures, start=1):
        print(f"{number:>5} {ours:>14.0f} {baseline:>14.0f} {ours / baseline:>6.3f}")
    ratio = statistics.median(ours / baseline for ours, baseline in figures)
    print(f"median ratio {ratio:.3f} over {len(figures)} pairs")
    if options.json:
        result = {
            "ratio": ratio,
            "ours": statistics.median(ours for ours, _ in figures),
            "baseline": statistics.median(baseline for _, baseline in figures),
            "pairs": len(figures),
        }
        options.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
