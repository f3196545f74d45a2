"""A run of the real loop that is killed again and again, with engines that wait and a learner that
only remembers.

    python -m tests.running.lives FOLDER '[{"name": "lag-1", "lag": 1, "kills": 20, ...}, ...]'

Every life is a process of its own (a fork of this one, which holds nothing). It draws a number and
kills itself, by SIGKILL, at the so-manyth thing that it does: an answer of an engine, a step of a
training, an operation that changes the disk. The next life goes on from the checkpoints. What is
trained on is written by the learner into its own part of the checkpoint: the prompts of every
update, in order, so that what a kill undoes is undone there, too. Nothing is judged here.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, cast

from rlstep.config import Config
from rlstep.curriculum.shuffled import Shuffled
from rlstep.interfaces import PromptSet
from rlstep.reporting.run_directory import RunDirectory
from rlstep.running.checkpoint import Checkpoints, RunState
from rlstep.running.run import Run
from rlstep.testing.roles import TOKENIZER, FakeGenerator, FakeRoles, FakeScorer
from rlstep.testing.small import small_config, small_prompt
from rlstep.types import Request, Rollout, Samples

PROMPTS = 4
"""Of an iteration."""
TRAINED = "trained.json"
"""What the learner remembers, in a checkpoint: [iteration, [[admitted with, prompt_id, text], ...]]
for every iteration that was trained on."""


class Death:
    """The so-manyth thing that this life does is its last."""

    def __init__(self, at: int) -> None:
        self.left = at
        sys.addaudithook(self._changes_the_disk)

    def point(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def _changes_the_disk(self, event: str, args: tuple[Any, ...]) -> None:
        writes = (
            event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if writes or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            self.point()


class Waiting(FakeGenerator):
    """Answers after a number of turns of the event loop, a few of the requests very late."""

    death: Death

    async def _finish(self, request: Request, done: asyncio.Queue[Request]) -> None:
        random = Random(f"{request.request_id} {self.version}")
        for _ in range(random.choice((1, 2, 4, 8, 300))):
            await asyncio.sleep(0)
        self.death.point()
        done.put_nowait(request)


def written(prefix: str, child: int, seed: int) -> str:
    """Every other prompt has a group with signal; what is written depends on the request."""
    number = int(prefix[1:-2])
    right = child == 0 or number % 2
    return f"{seed % 1000}\n#5" if right else f"{seed % 1000}\n#9"


class Remembering(FakeRoles):
    """Its learner's weights are what they were trained on."""

    death: Death
    memory: list[Any]

    async def train(
        self, samples: Samples, rollouts: Sequence[Rollout], iteration: int
    ) -> dict[str, float]:
        self.whole = False
        for _ in range(3):
            self.death.point()
            await asyncio.sleep(0)
        made = {(r.iteration, r.prompt.prompt_id, r.completion.text) for r in rollouts}
        self.memory.append([iteration, sorted(made)])
        return await super().train(samples, rollouts, iteration)

    async def save(self, folder: Path) -> None:
        self.death.point()
        (folder / TRAINED).write_text(json.dumps(self.memory))


class Lines:
    """The reporter of a life: metrics, as a Reporter writes them."""

    def __init__(self, directory: RunDirectory) -> None:
        self.directory = directory

    def iteration(self, record: dict[str, Any], groups: Any = ()) -> None:
        named = ("iteration", "replaced/groups", "rollout/groups", "rollout/sampled_total")
        kept = {name: record[name] for name in (*named, "rollout/failures/stale") if name in record}
        self.directory.metrics.append(kept)


def configured(asked: dict[str, Any]) -> tuple[Config, PromptSet]:
    further = asked.get("further", 0)
    config = small_config(
        iterations=asked["iterations"],
        prompts_per_iteration=PROMPTS,
        further_prompts=further,
        max_policy_lag=asked["lag"],
        checkpoint_every=asked.get("every", 1),
        curriculum=Shuffled(),
    )
    number = asked["iterations"] * (PROMPTS + further)
    prompts = [small_prompt(f"{i:04d}", text=f"p{i:04d}=\n") for i in range(number)]
    return config, PromptSet(train=prompts, evaluation=[])


async def live(folder: Path, asked: dict[str, Any], last: int) -> None:
    config, prompts = configured(asked)
    root = folder.parent
    directory = RunDirectory(folder)
    if not folder.exists():
        directory = RunDirectory.create(root, folder.name)
    checkpoints = Checkpoints(directory.checkpoints)
    saved = checkpoints.latest_valid()
    state = saved.state if saved else RunState(iteration=0)
    run = Run(config, TOKENIZER, prompts, directory, checkpoints, saved)
    death = Death(last)
    generator = Waiting(written, version=state.versions.get("policy", 0))
    roles: Any = Remembering(config, generator, FakeScorer(), version=generator.version)
    roles.counting.sampled = state.counters.get("train_tokens", 0)
    roles.memory = json.loads((saved.path / TRAINED).read_text()) if saved else []
    roles.death = generator.death = death
    roles.between_updates = asyncio.Event()
    roles.between_updates.set()
    roles.scorer.versions = {}
    run.roles, run.reporter = roles, cast(Any, Lines(directory))
    directory.truncate_after(state.iteration or -1)  # as a Reporter does
    await run._train(state)


def lived(folder: Path, asked: dict[str, Any]) -> int:
    """One run, by as many lives as it takes. Returns how many were killed."""
    random, kills = Random(asked.get("seed", 0)), 0
    while True:
        last = random.randint(1, asked["longest"]) if kills < asked["kills"] else 0
        child = os.fork()
        if not child:
            try:
                asyncio.run(live(folder, asked, last))
            except BaseException as error:
                print(repr(error), file=sys.stderr)
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            if os.WEXITSTATUS(status):
                sys.exit("a life ended by an error")
            return kills
        kills += 1


if __name__ == "__main__":
    import safetensors.numpy  # noqa: F401  (once, and not in every life)

    gc.freeze()
    os.fsync = lambda descriptor: None  # what a dead machine keeps is another test's matter
    for each in json.loads(sys.argv[2]):
        print(json.dumps({"kills": lived(Path(sys.argv[1]) / each["name"], each)}), flush=True)
