"""Time and memory of every loss over plain cross-entropy's, from logits to their gradient.

    python tests/bench/losses.py [--batch 8] [--length 2048] [--vocabulary 32000] [--json FILE]

Every loss that takes one language model's predictions has a process of its own: it builds logits,
measures the peak of one forward and backward pass over what was resident before it, and then times
the loss and torch's cross-entropy on the same logits in turn. Memory is compared with that of
cross-entropy in a process of its own. Goal: at most 1.3 times its time and 1.5 times its memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # `tests`, when run as a plain script

import numpy as np
import torch
from torch import Tensor

from rlstep.interfaces import Loss
from rlstep.tensors.batching import collate, count
from rlstep.tensors.logprobs import token_logprobs
from rlstep.types import (
    AdvantageSamples,
    Counts,
    LabelSamples,
    Pair,
    PairSamples,
    Samples,
    Sequence,
)
from tests.losses.every import loss_classes

PLAIN = "torch cross_entropy"
GOAL = {"time_ratio": 1.3, "memory_ratio": 1.5}
STEP_TOKENS = 32


# --- one loss, in its own process ----------------------------------------------------------------


@dataclass(frozen=True)
class Inputs:
    """What a pass starts from."""

    logits: Tensor
    """[B, T, V], a leaf that takes a gradient."""
    batch: Any
    counts: Counts


def sequences(batch: int, length: int, vocabulary: int) -> tuple[Sequence, ...]:
    """An eighth is prompt, the rest steps of a few dozen tokens."""
    random = np.random.default_rng(0)
    prompt = max(1, length // 8)
    index = np.concatenate([np.full(prompt, -1), np.arange(length - prompt) // STEP_TOKENS])
    return tuple(
        Sequence(
            sequence_id=str(i),
            prompt_id="p",
            token_ids=random.integers(0, vocabulary, length).astype(np.int32),
            loss_mask=index >= 0,
            step_index=index.astype(np.int32),
            rollout_logprobs=np.full(length, -np.log(vocabulary), np.float32),
            step_scores=random.random(index[-1] + 1).astype(np.float32),
            oldest_version=0,
        )
        for i in range(batch)
    )


def samples_of(takes: type, rows: tuple[Sequence, ...]) -> Samples:
    ones = tuple(s.loss_mask.astype(np.float32) for s in rows)
    if takes is PairSamples:
        pairs = tuple(
            Pair(
                chosen=i,
                rejected=i + 1,
                shared_prefix=1,
                chosen_score=1.0,
                rejected_score=0.0,
                provenance="bench",
            )
            for i in range(0, len(rows), 2)
        )
        return PairSamples(sequences=rows, pairs=pairs, groups=1)
    if takes is AdvantageSamples:
        advantages = tuple(row if i % 2 else -row for i, row in enumerate(ones))
        return AdvantageSamples(sequences=rows, advantages=advantages, groups=1)
    return LabelSamples(sequences=rows, targets=ones, weights=ones)


def build(takes: type, batch: int, length: int, vocabulary: int, dtype: torch.dtype) -> Inputs:
    samples = samples_of(takes, sequences(batch, length, vocabulary))
    uniform = [s.rollout_logprobs for s in samples.sequences]
    # Windows onto one row of noise: no second tensor of the logits' size is ever made.
    noise = torch.randn(vocabulary + length - 1, generator=torch.Generator().manual_seed(0))
    logits = torch.empty(batch, length, vocabulary, dtype=dtype)
    for row in logits:
        row.copy_(noise.unfold(0, vocabulary, 1))
    return Inputs(logits.requires_grad_(), collate(samples, uniform, uniform), count(samples))


def ours(loss: Loss, inputs: Inputs) -> None:
    predictions = token_logprobs(inputs.logits, inputs.batch.token_ids)
    loss(predictions, inputs.batch, inputs.counts).loss.backward()


def plain(inputs: Inputs) -> None:
    """Mean over the same tokens. The targets are shifted, not the logits, which copies nothing."""
    targets = inputs.batch.token_ids.masked_fill(~inputs.batch.loss_mask, -100).roll(-1, 1)
    targets[:, -1] = -100
    torch.nn.functional.cross_entropy(inputs.logits.flatten(0, 1), targets.flatten()).backward()


def resident(field: str) -> float:
    """MiB of this process: VmRSS now, or VmHWM, its peak since the last `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) for row in lines if row.startswith(f"{field}:")) / 1024


def forget_peak() -> None:
    # Linux: building the inputs and importing torch must not count (ru_maxrss cannot forget).
    Path("/proc/self/clear_refs").write_text("5")


def seconds(run: Callable[[Inputs], None], inputs: Inputs) -> float:
    inputs.logits.grad = None
    begin = time.perf_counter()
    run(inputs)
    return time.perf_counter() - begin


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    torch.set_num_threads(options.threads)
    classes = {c.__name__: c for c in loss_classes()}
    takes = LabelSamples if name == PLAIN else classes[name].takes

    def run(inputs: Inputs) -> None:
        plain(inputs) if name == PLAIN else ours(classes[name](), inputs)

    dtype = getattr(torch, options.dtype)
    small = build(takes, 2, 8, 16, dtype)
    for call in (run, plain):  # what torch loads on its first use is nobody's memory
        seconds(call, small)
    inputs = build(takes, options.batch, options.length, options.vocabulary, dtype)
    gc.collect()
    forget_peak()
    before = resident("VmRSS")
    run(inputs)
    memory = resident("VmHWM") - before
    gradient = inputs.logits.grad
    assert gradient is not None and gradient.isfinite().all() and (gradient != 0.0).any()
    del gradient
    seconds(plain, inputs)
    times = [(seconds(run, inputs), seconds(plain, inputs)) for _ in range(options.repeats)]
    return {
        "memory_mib": memory,
        "time_s": statistics.median(ours for ours, _ in times),
        "plain_time_s": statistics.median(plain for _, plain in times),
        "time_ratio": statistics.median(ours / plain for ours, plain in times),
    }


# --- all of them ---------------------------------------------------------------------------------


def in_own_process(name: str, arguments: list[str]) -> dict[str, float]:
    """`measure`, in a fresh interpreter.

    Raises:
        RuntimeError: it failed; with what it wrote to stderr.
    """
    command = [sys.executable, __file__, *arguments, "--measure", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: exit status {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(names: list[str], arguments: list[str]) -> dict[str, dict[str, float]]:
    rows: dict[str, dict[str, float]] = {}
    print(f"{'':24} {'time, s':>9} {'ratio':>7} {'memory, MiB':>12} {'ratio':>7}")
    for name in [PLAIN, *names]:
        row = in_own_process(name, arguments)
        row["memory_ratio"] = row["memory_mib"] / (rows or {PLAIN: row})[PLAIN]["memory_mib"]
        rows[name] = row
        print(
            f"{name:24} {row['time_s']:9.3f} {row['time_ratio']:7.3f} {row['memory_mib']:12.1f}"
            f" {row['memory_ratio']:7.3f}",
            flush=True,
        )
    return rows


def parse(arguments: list[str]) -> argparse.Namespace:
    # The others' predictions are a scalar head's, and come from no vocabulary, or of two models'.
    compared = [c for c in loss_classes() if not c.of_logits and "divergences" not in c().reads]
    names = [c.__name__ for c in compared]
    parser = argparse.ArgumentParser(description="Losses over torch's cross-entropy")
    parser.add_argument("--batch", type=int, default=8, help="sequences, an even number")
    parser.add_argument("--length", type=int, default=2048, help="tokens of each")
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5, help="timed passes of each kind")
    parser.add_argument("--losses", nargs="+", choices=names, default=names, metavar="LOSS")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--measure", choices=[PLAIN, *names], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.batch < 2 or options.batch % 2:
        parser.error(f"--batch is {options.batch}; pairs need an even number, 2 at least")
    return options


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    if options.measure:
        print(json.dumps(measure(options.measure, options)))
        return
    rows = compare(options.losses, arguments)
    compared = {name: row for name, row in rows.items() if name != PLAIN}
    worst = {key: max(row[key] for row in compared.values()) for key in GOAL}
    print("  ".join(f"worst {key} {worst[key]:.3f} (goal {GOAL[key]})" for key in GOAL))
    if options.json:
        sizes = {k: v for k, v in vars(options).items() if k not in {"json", "measure", "losses"}}
        report = {"sizes": sizes, "goal": GOAL, "worst": worst, "losses": rows}
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
