"""Time and memory of a learner that computes a shared prefix once, over one that does not.

    python tests/bench/shared_prefixes.py [--pairs 5] [--prompt 128] [--completion 128] [--json F]

One update of PPO on groups of 8, by a random Qwen2 in float32 with SDPA. Three kinds of data:
prompts as long as every completion; prompts with completions of long-tailed lengths (lognormal,
sigma 1, of the same mean); and as many sequences that share nothing, where both sides do the same.
Both sides run in one process, in turn, each from the weights that the other left; only the layout
is switched. Time is the processor's, kernel included, since a machine that is shared stretches what
a clock shows. What a linear cost would give stands beside it, useful tokens over computed ones:
1.78 for 8 siblings with equal halves. Peak memory is of an update over what was resident before it,
each side in a process of its own. Goal: 1.6 times the useful tokens a second.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # `tests`, when run as a plain script

import numpy as np

from rlstep.actors.learner.branch_attention import NAME
from rlstep.config import LearnerConfig, ModelConfig, OptimizerConfig
from rlstep.losses.ppo import Ppo
from rlstep.types import AdvantageSamples, Sequence
from tests.actors.learner.learner_kit import make_model, running
from tests.bench.losses import forget_peak, resident

GROUP, GOAL, VOCABULARY = 8, 1.6, 512
SIDES = ("shared", "plain")
KINDS = ("siblings", "long tail", "nothing shared")


def samples(kind: str, groups: int, sizes: tuple[int, int]) -> AdvantageSamples:
    """`groups` groups of 8; tokens of a prompt, and of a completion on average."""
    random, made = np.random.default_rng(0), []
    length, completion = sizes
    for group in range(groups):
        prompt = random.integers(2, VOCABULARY, length)
        lengths = np.full(GROUP, completion)
        if kind == "long tail":
            lengths = random.lognormal(-0.5, 1.0, GROUP) * completion
            lengths = lengths.astype(int).clip(2, 4 * completion)
        for i, own in enumerate(lengths.tolist()):
            if kind == "nothing shared":
                prompt = random.integers(2, VOCABULARY, length)
            mask = np.arange(length + own) >= length
            made.append(
                Sequence(
                    sequence_id=f"{group}.{i}",
                    prompt_id=str(group),
                    token_ids=np.r_[prompt, random.integers(2, VOCABULARY, own)].astype(np.int32),
                    loss_mask=mask,
                    step_index=mask.astype(np.int32) - 1,
                    rollout_logprobs=np.zeros(len(mask), np.float32),
                    step_scores=np.zeros(1, np.float32),
                    oldest_version=0,
                )
            )
    advantages = tuple(
        np.where(s.loss_mask, 1.0 if i % 2 else -1.0, 0.0).astype(np.float32)
        for i, s in enumerate(made)
    )
    return AdvantageSamples(sequences=tuple(made), advantages=advantages, groups=groups)


def config(path: str, options: argparse.Namespace) -> LearnerConfig:
    return LearnerConfig(
        model=ModelConfig(path=path),
        token_budget=options.token_budget,
        shared_prefixes=True,
        threads=options.threads,
        optimizer=OptimizerConfig(learning_rate=1e-5),
    )


def use(worker: Any, side: str) -> None:
    """Switch a learner, which started with shared prefixes, to a side."""
    worker.config = replace(worker.config, shared_prefixes=side == "shared")
    worker.engine.module.set_attn_implementation(NAME if side == "shared" else "sdpa")


def timed(worker: Any, side: str, batch: AdvantageSamples) -> dict[str, float]:
    use(worker, side)
    begin, clock = time.process_time(), time.perf_counter()
    found = worker.train(batch)
    seconds = {"time_s": time.process_time() - begin, "clock_s": time.perf_counter() - clock}
    saved = found.get("shared_tokens", 0.0)
    return {**seconds, **{k: found[k] for k in ("loss", "grad_norm", "tokens")}, "saved": saved}


def compare(worker: Any, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    batch = samples(kind, options.groups, (options.prompt, options.completion))
    timed(worker, "plain", batch)  # what torch loads on its first use is nobody's time
    pairs = []
    for number in range(options.pairs):
        order = SIDES[:: -1 if number % 2 else 1]  # each side goes first half of the time
        pairs.append({side: timed(worker, side, batch) for side in order})
    shared = [pair["shared"] for pair in pairs]
    tokens = shared[0]["tokens"]
    return {
        "ratios": [pair["plain"]["time_s"] / pair["shared"]["time_s"] for pair in pairs],
        "tokens_per_s": {
            side: statistics.median(tokens / pair[side]["time_s"] for pair in pairs)
            for side in SIDES
        },
        "linear_bound": tokens / (tokens - shared[0]["saved"]),
        "clock": [pair["plain"]["clock_s"] / pair["shared"]["clock_s"] for pair in pairs],
    }


def memory(folder: str, options: argparse.Namespace) -> float:
    """MiB at an update's peak, over what was there before."""
    batch = samples("siblings", options.groups, (options.prompt, options.completion))
    with running(config(folder, options), Ppo()) as worker:
        use(worker, options.measure)
        worker.train(samples("siblings", 1, (8, 8)))  # the optimizer's state is there after it
        forget_peak()
        before = resident("VmRSS")
        worker.train(batch)
        return resident("VmHWM") - before


def memories(folder: str, arguments: list[str]) -> dict[str, float]:
    found = {}
    for side in SIDES:
        command = [sys.executable, __file__, *arguments, "--measure", side, "--folder", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[side] = float(done.stdout.splitlines()[-1])
    return found


def show(kind: str, row: dict[str, Any]) -> None:
    print(
        f"{kind:15} {spread(row['ratios'])} times the useful tokens a second by processor time,"
        f" {spread(row['clock'])} by the clock; linear bound {row['linear_bound']:.2f};"
        f" {row['tokens_per_s']['shared']:.0f} for {row['tokens_per_s']['plain']:.0f}",
        flush=True,
    )


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Shared prefixes over prompts computed each time")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prompt")
    parser.add_argument("--completion", type=int, default=128, help="of a completion, on average")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--token-budget", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--measure", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(memory(options.folder, options))
        return
    print(
        f"{options.groups} groups of {GROUP}, prompts of {options.prompt} tokens, completions of"
        f" {options.completion} on average; Qwen2 of {options.layers} layers of {options.hidden},"
        f" float32; {options.pairs} pairs; load of the machine {os.getloadavg()[0]:.1f}"
    )
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"hidden": options.hidden, "layers": options.layers, "vocabulary": VOCABULARY}
        path = make_model(Path(folder), **sizes)
        with running(config(path, options), Ppo()) as worker:
            for kind in options.kinds:
                found[kind] = compare(worker, kind, options)
                show(kind, found[kind])
        found["peak_mib"] = memories(path, arguments)
    peak = found["peak_mib"]
    print(
        f"peak memory     {peak['shared']:.0f} for {peak['plain']:.0f} MiB,"
        f" {peak['shared'] / peak['plain']:.2f}; goal of siblings with equal halves {GOAL}"
    )
    if options.json:
        options.json.write_text(json.dumps({"goal": GOAL, **found}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
