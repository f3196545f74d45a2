"""Runs of the tiny recipe in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "tests" / "tiny_recipe.py"


def make_policy(folder: Path) -> str:
    """Random weights with the arithmetic tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from rlstep.tasks.arithmetic import arithmetic_tokenizer

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=24,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        initializer_range=0.1,
        tie_word_embeddings=True,
        eos_token_id=arithmetic_tokenizer().eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    arithmetic_tokenizer().save_pretrained(folder)
    return str(folder)


@contextmanager
def started(
    policy: str, runs: Path, *arguments: str, verb: str = "train", recipe: Path = RECIPE
) -> Iterator[subprocess.Popen[str]]:
    """`rlstep train` on the tiny recipe; ended with everything under it when the block is left."""
    # Not the wandb service that this process may have: it would keep a killed run's id in use.
    inherited = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "rlstep.cli",
            verb,
            str(recipe),
            "--run-dir",
            str(runs),
            *arguments,
        ],
        env={**inherited, "TINY_POLICY": policy, "WANDB_MODE": "offline"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        for child in [*descendants(process.pid), process]:
            try:
                child.kill()
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue  # ended by itself meanwhile
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def train(policy: str, runs: Path, *arguments: str, recipe: Path = RECIPE) -> None:
    """Run to the end."""
    with started(policy, runs, *arguments, recipe=recipe) as process:
        finish(process)


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for its end. Returns what it printed."""
    output, _ = process.communicate()
    assert process.returncode == 0, output[-4000:]
    return output


def wait_for_iteration(process: subprocess.Popen[str], run: Path, iteration: int) -> None:
    """Until the run has a checkpoint of that iteration."""
    wanted = run / "checkpoints" / f"iteration-{iteration:06d}"
    _watch(process, wanted.exists, str(wanted))


def wait_for_a_checkpoint(process: subprocess.Popen[str], run: Path) -> None:
    """Until the run has one, of whatever iteration."""
    _watch(process, lambda: [*run.glob("checkpoints/iteration-*")] != [], f"checkpoint of {run}")


def wait_for_lines(process: subprocess.Popen[str], file: Path, number: int) -> None:
    """Until a file has so many lines."""
    _watch(
        process,
        lambda: file.exists() and len(file.read_text().splitlines()) >= number,
        f"{number} lines in {file}",
    )


def _watch(process: subprocess.Popen[str], there: Callable[[], bool], what: str) -> None:
    def look() -> bool:
        if found := there():
            return found
        assert process.poll() is None, process.communicate()[0][-4000:]
        return False

    wait_for(look, what)


def descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def records(run: Path, file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / file).read_text().splitlines()]
