"""Tokens of conversations on the real engine: what a turn prefills, and what conversing costs.

    PYTHONPATH=. python tests/bench/conversation.py [--rounds 3] [--json FILE]

256 conversations of 8 turns of 64 sampled tokens or a few more, 16 observed ones between them, on a
small model of random weights. 'prefilled' is what the engine had to read of a turn's prefix, by its
own count of what it found cached, beside what was new in it; a cache block is not shared before it
is full. The tokens/s are of sampled tokens, the sides in turns in one run: conversations whose
environment answers at once, in a process of its own; and the same requests without one, all of a
turn at once ('waves'), and without a history as well ('single': what is new of every turn is its
whole prompt). With an environment that takes time, the bound is the longer one of what the engine
needs where nobody waits, and of what one conversation needs that is alone, and its waiting.
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
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rlstep.actors.generator.generator import engine_environment
from rlstep.config import GeneratorConfig
from rlstep.environments.plain_turns import PlainTurns
from rlstep.interfaces import RolloutContext
from rlstep.rollouts.conversation import Conversation
from rlstep.scoring.processes.environment_pool import EnvironmentPool
from rlstep.steps.turns import Turns
from rlstep.tasks.arithmetic import arithmetic_tokenizer
from rlstep.testing.roles import FakeScorer
from rlstep.types import Action, Failure, History, Observation, Prompt, Request, Rollout, Sampling
from tests.bench.latent import Latent

PROMPTS, SAMPLES, TURNS, TURN_TOKENS, PROMPT_TOKENS = 32, 8, 8, 64, 16
SAYS = "1+2+3+4=5+6+7*8"
CONFIG = GeneratorConfig(context=1024, concurrency=256, kv_cache_mib=512, threads=1)
TOKENIZER = arithmetic_tokenizer()
ENDS = tuple(TOKENIZER.encode("56789+-*=#", add_special_tokens=False))
"""Any of these ends a turn, and none is said before it is long enough: half of all tokens, so that
turns have the same length but for a few tokens, and are yet drawn."""
SAMPLING = Sampling(
    max_tokens=TURNS * (TURN_TOKENS + 32),
    min_tokens=TURN_TOKENS - 1,
    stop_token_ids=ENDS,
)
AT_ONCE = Latent(says=SAYS)
TALK = Conversation(
    environment=AT_ONCE,
    samples_per_prompt=SAMPLES,
    turns=TURNS,
    turn_tokens=TURN_TOKENS + 16,
    sampling=SAMPLING,
    format=PlainTurns(before="", after="\n"),
)
SLOW = {
    "200 ms": Latent(says=SAYS, median_s=0.2),
    "lognormal": Latent(says=SAYS, median_s=0.2, spread=1.0),
}
"""Environments that take their time: of the second the mean is 0.33 s, and of 100 turns one takes
two seconds."""


class PoolScorer(FakeScorer):
    """Answers in the pool's processes, as a replica of the role does."""

    def __init__(self, pool: EnvironmentPool) -> None:
        super().__init__()
        self.pool = pool

    async def observe(self, history: History) -> Observation | Failure:
        return await self.pool.observe(history)

    def leave(self, history: History) -> None:
        self.leaving = asyncio.ensure_future(self.pool.leave(history))


def write_model(folder: str, tokenizer: Any) -> None:
    """As small as the policy that the arithmetic recipes begin with, with room for 8 turns."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def problems(seed: int, tokenizer: Any, number: int = PROMPTS) -> list[Prompt]:
    """Fresh prompts in every round, so that no cache helps from one to the next."""
    random = np.random.default_rng(seed)
    digits = tokenizer.encode("0123456789", add_special_tokens=False)
    rows = random.choice(digits, (number, PROMPT_TOKENS)).astype(np.int32)
    return [
        Prompt(prompt_id=f"{seed}-{i}", token_ids=row, text=tokenizer.decode(row), answer="")
        for i, row in enumerate(rows)
    ]


async def converse(
    group: Any, tokenizer: Any, environment: Latent, prompts: Sequence[Prompt], samples: int
) -> tuple[float, list[Rollout]]:
    """Seconds of the conversations, and these."""
    talk = replace(TALK, environment=environment, samples_per_prompt=samples)
    pool = EnvironmentPool(environment, threads=PROMPTS * SAMPLES, deadline_s=120.0)
    context = RolloutContext(
        generator=group,
        scorer=PoolScorer(pool),
        splitter=Turns(),
        tokenizer=tokenizer,
        conversing=talk,
        between=talk.format.between(tokenizer),
        iteration=0,
        purpose="",
        seed=int(prompts[0].prompt_id.partition("-")[0]),
    )
    try:
        first = (Action(text="", token_ids=(0,)),)  # starts the process
        await pool.observe(History(episode_id="", prompt=prompts[0], seed=0, actions=first))
        begun = time.perf_counter()
        groups = [found async for found in talk.collect(prompts, context)]
        took = time.perf_counter() - begun
    finally:
        await pool.close()
    assert not any(found.failures for found in groups), groups[0].failures
    return took, [rollout for found in groups for rollout in found.rollouts]


async def waves(group: Any, between: Sequence[int], prompts: Sequence[Prompt]) -> float:
    """Tokens/s of the same requests, all of a turn at once, with nobody to talk to."""
    sampled = 0
    prefixes = {
        f"{prompt.prompt_id}/{i}": prompt.token_ids for prompt in prompts for i in range(SAMPLES)
    }
    begun = time.perf_counter()
    for turn in range(TURNS):
        asked = [_request(f"{n}/{turn}", ids, turn) for n, ids in prefixes.items()]
        async for request, (completion,) in group.generate(asked):
            name = request.request_id.rpartition("/")[0]
            sampled += len(completion.token_ids)
            prefixes[name] = np.concatenate([request.prefix_ids, completion.token_ids, between])
    return sampled / (time.perf_counter() - begun)


async def single(group: Any, seed: int, between: Sequence[int]) -> float:
    """Tokens/s of requests that each have what is new in a turn for their prompt, all at once."""
    random = np.random.default_rng(seed)
    asked = [
        _request(f"{seed}/{i}", random.permutation(np.array(between, np.int32)), i)
        for i in range(PROMPTS * SAMPLES * TURNS)
    ]
    begun, sampled = time.perf_counter(), 0
    async for _, (completion,) in group.generate(asked):
        sampled += len(completion.token_ids)
    return sampled / (time.perf_counter() - begun)


def _request(name: str, ids: Any, seed: int) -> Request:
    return Request(
        request_id=name,
        prefix_ids=np.asarray(ids, np.int32),
        n=1,
        seed=seed,
        sampling=replace(SAMPLING, max_tokens=TURN_TOKENS + 16),
        affinity=name.partition("/")[0],
    )


def prefilled(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """What the engine read of all prefixes, and what was new in them: prompts, observations, and of
    every turn the last token, which was sampled and never read."""
    read = new = turns = 0
    for rollout in rollouts:
        starts = [0, *(seen.end for seen in rollout.completion.observed)]
        lengths = [len(rollout.prompt.token_ids) + start for start in starts]
        assert rollout.completion.cached is not None
        read += sum(lengths) - rollout.completion.cached
        observed = sum(seen.end - seen.start + 1 for seen in rollout.completion.observed)
        new += len(rollout.prompt.token_ids) + observed
        turns += len(starts)
    return {"read": read, "new": new, "allowed": new + CONFIG.block_size * turns}


@asynccontextmanager
async def engine(folder: str) -> AsyncIterator[Any]:
    import ray

    from rlstep.actors.generator.generator_group import GeneratorGroup

    ray.init(address="local", logging_level=logging.WARNING, include_dashboard=False)
    group = GeneratorGroup(CONFIG, folder, {})
    await group.start()
    try:
        yield group
    finally:
        await group.close()
        ray.shutdown()


async def measure(rounds: int) -> dict[str, Any]:
    tokenizer = TOKENIZER
    between = tokenizer.encode(SAYS + "\n", add_special_tokens=False)
    pairs, seconds = [], []
    found: dict[str, Any] = {"pairs": pairs}
    with tempfile.TemporaryDirectory() as folder:
        write_model(folder, tokenizer)
        async with engine(folder) as group:
            for number in range(rounds + 1):
                seed = 10 * number
                took, talks = await converse(
                    group, tokenizer, AT_ONCE, problems(seed, tokenizer), SAMPLES
                )
                row = {
                    "conversations": sampled(talks) / took,
                    "waves": await waves(group, between, problems(seed + 1, tokenizer)),
                    "single": await single(group, seed + 2, between),
                }
                if number:  # the first one warms up
                    pairs.append(row)
                    seconds.append(took)
            found["at once"] = prefilled(talks)
            alone, _ = await converse(group, tokenizer, AT_ONCE, problems(7, tokenizer, 1), 1)
            for seed, (name, environment) in enumerate(SLOW.items(), 8):
                took, talks = await converse(
                    group, tokenizer, environment, problems(seed, tokenizer), SAMPLES
                )
                bound = max(statistics.median(seconds), alone + longest_wait(talks))
                found[name] = {"seconds": took, "bound": bound, **prefilled(talks)}
    return found


def sampled(talks: Sequence[Rollout]) -> int:
    return sum(int(rollout.completion.sampled.sum()) for rollout in talks)


def longest_wait(talks: Sequence[Rollout]) -> float:
    """Of the conversation whose environment took the longest in all, in seconds."""
    waits = [rollout.step_scores("environment/waited_s") for rollout in talks]
    return max(float(wait.values.sum()) for wait in waits if wait is not None)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ.update(engine_environment(CONFIG))
    found = asyncio.run(measure(options.rounds))
    print(f"{'tokens/s':<16} {'conversations':>13} {'waves':>8} {'single':>8}")
    for number, row in enumerate(found["pairs"], 1):
        print(f"{number:<16} {row['conversations']:>13.0f} {row['waves']:>8.0f}", end="")
        print(f" {row['single']:>8.0f}")
    for side in ("waves", "single"):
        ratios = [row["conversations"] / row[side] for row in found["pairs"]]
        found[f"over {side}"] = statistics.median(ratios)
        print(f"conversations over {side}: {found[f'over {side}']:.3f}, median of {len(ratios)}")
    for name in ("at once", *SLOW):
        row = found[name]
        print(f"{name}: prefilled {row['read']:.0f} tokens, new {row['new']:.0f}", end="")
        print(f" ({row['read'] / row['new']:.3f}), with a block a turn {row['allowed']:.0f}")
        if "bound" in row:
            print(f"  {row['seconds']:.2f} s, bound {row['bound']:.2f} s:", end="")
            print(f" {row['bound'] / row['seconds']:.3f}")
    if options.json:
        options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
