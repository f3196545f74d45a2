"""Turns/s of conversations whose turns Monte Carlo continues, over those of the engine alone.

    python tests/bench/turn_overhead.py [--prompts 64] [--rounds 3] [--json FILE]
    python tests/bench/turn_overhead.py --against CHECKOUT

The engine is a stub that plays in no time, the environment's processes are real, Ray is not there:
what is left is what a turn costs beside its forward passes. The bare side asks the stub for the
same turns, all at once; its CPU time is taken off. 'a call' is how many turns go to the engine in
one call, each of which costs an actor call in a run; the values are the labels' sum, so that one
sees that both sides did the same. Shares are of CPU time: of the environment's processes by the
kernel's count, of this process by the profiler's, a function's own time by the room that it stands
in. Against another checkout of this repository the two alternate, each round in a process of its
own.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlstep.environments.guess_number import GuessNumber
from rlstep.environments.plain_turns import PlainTurns
from rlstep.rollouts.conversation import Conversation
from rlstep.rollouts.monte_carlo import MonteCarlo
from rlstep.scoring.processes.environment_pool import EnvironmentPool
from rlstep.steps.turns import Turns
from rlstep.testing.roles import TOKENIZER, FakeScorer, fake_completion, fake_context
from rlstep.testing.small import small_prompt
from rlstep.types import (
    Completion,
    Failure,
    History,
    Observation,
    Prompt,
    Request,
    Rollout,
    Sampling,
)

GUESSES = 5
GAME = Conversation(
    environment=GuessNumber(guesses=GUESSES),
    turns=GUESSES,
    turn_tokens=4,
    sampling=Sampling(max_tokens=40),
    format=PlainTurns(before="", after="\n"),
)
LABELS = MonteCarlo(continuations=4)


class Stub:
    """Plays anywhere in what is left of the range (implements `interfaces.GenerateRole`)."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.calls = 0

    async def generate(
        self, requests: Sequence[Request]
    ) -> AsyncIterator[tuple[Request, tuple[Completion, ...] | Failure]]:
        self.asked += requests
        self.calls += 1
        for request in requests:
            yield request, (_guess(request),)


def _guess(request: Request) -> Completion:
    lines = TOKENIZER.decode(request.prefix_ids.tolist()).split()
    low, high = map(int, lines[0].split("-"))
    for said, sign in zip(lines[1::2], lines[2::2], strict=True):
        low, high = (low, int(said) - 1) if sign == "<" else (int(said) + 1, high)
    return fake_completion(f"{low + request.seed % (high - low + 1):02d}\n", 4)


class PoolScorer(FakeScorer):
    """Answers in the pool's processes, as a replica of the role does."""

    def __init__(self, pool: EnvironmentPool) -> None:
        super().__init__()
        self.pool = pool

    async def observe(self, history: History) -> Observation | Failure:
        return await self.pool.observe(history)

    def leave(self, episode: Any) -> Any:
        """As this checkout's conversations call it: they wait, or do not."""
        return asyncio.ensure_future(self.pool.leave(episode))


def problems(number: int, seed: int) -> list[Prompt]:
    random = np.random.default_rng(seed)
    return [
        small_prompt(f"{seed}-{i}", text="03-33\n", answer=str(random.integers(3, 34)))
        for i in range(number)
    ]


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of those processes."""
    total = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


async def played(prompts: Sequence[Prompt], context: Any) -> list[Rollout]:
    groups = [group async for group in GAME.collect(prompts, context)]
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    failures = [failure for group in groups for failure in group.failures]
    assert not failures, failures[0]
    return await LABELS.label(rollouts, context)


async def measure(number: int, seed: int, profile: cProfile.Profile) -> dict[str, float]:
    """One round: conversations, then the same requests to the stub alone."""
    pool = EnvironmentPool(GAME.environment, processes=2, deadline_s=60.0)
    try:
        stub = Stub()
        context: Any = fake_context(
            stub,  # type: ignore[arg-type]
            PoolScorer(pool),
            splitter=Turns(),
            conversing=GAME,
        )
        await played(problems(4, 1000 + seed), context)  # starts the processes
        stub.asked.clear()
        stub.calls = 0
        begun, own, theirs = time.perf_counter(), time.process_time(), cpu_seconds(pool.pids())
        with profile:
            labelled = await played(problems(number, seed), context)
        took, own = time.perf_counter() - begun, time.process_time() - own
        theirs = cpu_seconds(pool.pids()) - theirs
    finally:
        await pool.close()
    turns, calls = len(stub.asked), stub.calls
    begun, alone = time.perf_counter(), time.process_time()
    async for _ in stub.generate(stub.asked[:]):
        pass
    bare, alone = time.perf_counter() - begun, time.process_time() - alone
    scores = [rollout.step_scores("monte_carlo") for rollout in labelled]
    return {
        "turns": turns,
        "value": sum(float(score.values.sum()) for score in scores if score is not None),
        "turns_per_second": turns / took,
        "bare_turns_per_second": turns / bare,
        "turns_per_engine_call": turns / calls,
        "own_us": 1e6 * (own - alone) / turns,
        "environment_us": 1e6 * theirs / turns,
    }


class Unprofiled(cProfile.Profile):
    def __enter__(self) -> Unprofiled:
        return self

    def __exit__(self, *_: object) -> None: ...


def shares(number: int) -> dict[str, float]:
    """Of a turn's CPU time beside the engine's: in the environment's processes, and here by
    room."""
    profile = cProfile.Profile(time.process_time)
    asyncio.run(measure(number, 0, profile))
    figures = asyncio.run(measure(number, 0, Unprofiled()))
    spent: Counter[str] = Counter()
    for (file, _, _), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        spent[_room(file)] += own
    spent.pop("engine", None)
    whole = figures["own_us"] + figures["environment_us"]
    here = figures["own_us"] / whole / sum(spent.values())
    found = {room: here * seconds for room, seconds in spent.most_common()}
    return {"environment": figures["environment_us"] / whole, **found}


def _room(file: str) -> str:
    parts = Path(file).parts
    if file == __file__ or "testing" in parts:
        return "engine"
    if "processes" in parts or "json" in parts:
        return "pool"
    if "rlstep" in parts:
        return "rollouts"
    return "asyncio" if {"asyncio", "selectors.py"} & set(parts) else "builtins and libraries"


def one(checkout: Path, options: argparse.Namespace, number: int) -> dict[str, float]:
    """A round of a checkout, in a process of its own."""
    command = [sys.executable, __file__, "--prompts", str(options.prompts), "--round", str(number)]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    # In its folder: the processes that the pool starts find the package there first.
    done = subprocess.run(
        command, cwd=checkout, env=environment, stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--against", type=Path, help="compare with another checkout's code")
    parser.add_argument("--round", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.round is not None:
        print(json.dumps(asyncio.run(measure(options.prompts, options.round, Unprofiled()))))
        return
    here = Path(__file__).parents[2]
    sides = {"here": here} | ({"there": options.against} if options.against else {})
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number in range(options.rounds):
        for name, checkout in sides.items():
            found[name].append(one(checkout, options, number))
    print(f"{'':<6} {'turns':>6} {'turns/s':>8} {'bare':>6} {'a call':>7} {'CPU us':>7}", end="")
    print(f" {'environment':>11}  values")
    for number in range(options.rounds):
        for name, rounds in found.items():
            row = rounds[number]
            print(
                f"{name:<6} {row['turns']:>6} {row['turns_per_second']:>8.0f}"
                f" {row['bare_turns_per_second']:>6.0f} {row['turns_per_engine_call']:>7.1f}"
                f" {row['own_us']:>7.0f} {row['environment_us']:>11.0f}  {row['value']:.2f}"
            )
    medians = {
        name: statistics.median(row["own_us"] + row["environment_us"] for row in rounds)
        for name, rounds in found.items()
    }
    print("CPU us a turn, engine apart:", {name: round(us) for name, us in medians.items()})
    print("of it", {room: f"{share:.0%}" for room, share in shares(options.prompts).items()})
    if options.json:
        options.json.write_text(json.dumps({"us": medians["here"], "rounds": found["here"]}))


if __name__ == "__main__":
    main()
