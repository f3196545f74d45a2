"""A run of the real loop, the real group of generators and the real weight sync, over engines that
sleep, in virtual time, while a nemesis does things to them.

    history = run_virtually(world(Schedule(seed=3)))

Its history has: chosen (prompts), asked and left (requests), wrote, answered, loaded, made, ended
(engine), admitted (engines), fault (kind, replica, state; and whether in a weight transfer, which
then fails and costs every engine, as in vLLM 0.32), hit (what takes effect later), trained, end
(error).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast
from unittest.mock import patch

import numpy as np

from rlstep.actors.generator import generator_group, replicas
from rlstep.actors.weight_sync import WeightSync
from rlstep.config import Config, GeneratorConfig
from rlstep.curriculum.shuffled import Shuffled
from rlstep.interfaces import RolloutContext
from rlstep.rollouts.counting import CountingGenerator
from rlstep.running.loop import train
from rlstep.running.selection import Selection
from rlstep.testing.roles import FakeScorer, fake_context
from rlstep.testing.small import small_config, small_prompt
from rlstep.types import Request, Rollout, Samples
from tests.faults.engines import BUCKETS, SILENCE_S, Engine, Group, Ray
from tests.faults.history import History

PROBE = (np.arange(70) % 40 + 3).astype(np.int32)
TRAIN_S = 4.0
DEADLINE_S = 40.0
"""generator.deadline_s of these worlds."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is done to whom, and when: the first time after `after` seconds that the replica is in
    the state."""

    kind: str
    replica: int
    state: str = ""
    """'' is any."""
    after: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One world."""

    faults: Sequence[Fault] = ()
    lag: int = 0
    replicas: int = 3
    iterations: int = 6
    prompts: int = 4
    samples: int = 2
    seed: int = 0
    train_s: float = TRAIN_S
    token_s: float = 0.1
    """Of a token of everything that an engine has."""


DEEDS: dict[str, Callable[[Group, Engine], None]] = {
    "kill": lambda group, engine: engine.kill(),
    "freeze": lambda group, engine: engine.freeze(3 * DEADLINE_S),
    "stop": lambda group, engine: engine.freeze(1e9),
    "pause": lambda group, engine: engine.freeze(DEADLINE_S / 4),
    "crawl": lambda group, engine: engine.crawl(60.0),
    "refuse": lambda group, engine: setattr(engine, "refuses", True),
    "garble": lambda group, engine: setattr(engine, "garbles", True),
    "stillborn": lambda group, engine: (setattr(group, "stillborn", 1), engine.kill())[0],
}
"""What a nemesis can do."""


class Learner:
    """What the sync asks of the policy's learner; its weights are how often it was trained."""

    def __init__(self, group: Group, train_s: float) -> None:
        self.group, self.content, self.train_s = group, 0, train_s
        self.joined: list[Engine] = []

    async def train(self, samples: Any) -> dict[str, float]:
        await asyncio.sleep(self.train_s)
        self.content += 1
        return {"updates": 1.0}

    async def join_generators(self, actors: list[Any], **_: Any) -> None:
        self.joined = list(actors)

    async def publish(self, version: int) -> None:
        """As gloo does: all take the same weight, or none takes another one."""
        await self._each("begin")
        for _ in range(BUCKETS):
            await self._each("bucket")
        await self._each("finish", version, self.content)

    async def _each(self, verb: str, *arguments: Any) -> None:
        calls = [getattr(engine, verb).remote(*arguments) for engine in self.joined]
        try:
            await asyncio.wait_for(asyncio.gather(*calls), SILENCE_S)
        except Exception as error:
            raise RuntimeError(f"a weight did not go through: {error!r}") from error

    async def predict(self, sequences: list[Any]) -> list[Any]:
        return [np.full(len(row), self.content / -100, np.float32) for row in sequences]


class Noting:
    """The group, with a note of what it is asked and answers."""

    def __init__(self, group: Group, history: History) -> None:
        self.group, self.history = group, history

    async def generate(self, requests: Sequence[Request]) -> AsyncIterator[Any]:
        left = {request.request_id for request in requests}
        self.history.note("asked", requests=sorted(left))
        try:
            async for request, answer in self.group.generate(requests):
                left.discard(request.request_id)
                (place,) = (i for i, a in enumerate(self.history.answers) if a is answer)
                self.history.note("answered", request=request.request_id, answer=place)
                yield request, answer
        finally:
            self.history.note("left", requests=sorted(left))


@dataclass
class Roles:
    """All roles (implements `interfaces.Roles`)."""

    config: Config
    sync: WeightSync
    generator: Any
    history: History
    scorer: FakeScorer = field(default_factory=FakeScorer)

    @property
    def version(self) -> int:
        return self.sync.version

    @property
    def sampled(self) -> int:
        return self.generator.sampled

    def context(self, iteration: int, purpose: str = "") -> RolloutContext:
        return fake_context(
            self.generator, self.scorer, splitter=self.config.splitter, iteration=iteration
        )

    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        return list(rollouts)

    async def train(
        self, samples: Samples, rollouts: Sequence[Rollout], iteration: int
    ) -> dict[str, float]:
        return await self.sync.update(samples)


def configured(schedule: Schedule) -> Config:
    return small_config(
        iterations=schedule.iterations,
        prompts_per_iteration=schedule.prompts,
        max_policy_lag=schedule.lag,
        curriculum=Shuffled(),
        seed=schedule.seed,
        generator=GeneratorConfig(
            context=128,
            replicas=schedule.replicas,
            deadline_s=DEADLINE_S,
            max_recoveries=300,
        ),
    )


@contextmanager
def without_ray() -> Iterator[None]:
    with patch.object(replicas, "ray", Ray), patch.object(generator_group, "ray", Ray):
        yield


async def world(schedule: Schedule) -> History:
    """One run. What goes wrong is in its history."""
    history, config = History(), configured(schedule)
    group = Group(config.generator, history, schedule.token_s)
    learner = Learner(group, schedule.train_s)
    sync = WeightSync(cast(Any, learner), group, PROBE, 0)
    roles = Roles(config, sync, CountingGenerator(cast(Any, Noting(group, history))), history)
    number = schedule.iterations * schedule.prompts
    prompts = [small_prompt(f"{i:04d}", text=f"p{i:04d}=\n") for i in range(number)]
    nemesis = None
    error = ""
    with without_ray():
        try:
            await group.start()
            await sync.start(0)
            nemesis = asyncio.ensure_future(_nemesis(schedule, group, history))
            await _run(config, roles, Selection(config, prompts), history)
        except Exception as failed:
            error = repr(failed)
        finally:
            history.note("end", error=error)
            if nemesis is not None:
                nemesis.cancel()
                await asyncio.gather(nemesis, return_exceptions=True)
            await group.close()
            for engine in group.engines:
                engine.kill()
            await asyncio.gather(
                *(task for engine in group.engines for task in engine.tasks),
                return_exceptions=True,
            )
    return history


async def _run(config: Config, roles: Roles, selection: Selection, history: History) -> None:
    def report(metrics: Any, groups: Sequence[Any]) -> None:
        history.note(
            "trained",
            iteration=metrics["iteration"],
            version=roles.version - 1,
            prompts=[group.prompt.prompt_id for group in groups],
            samples=config.rollouts.samples_per_prompt,  # type: ignore[attr-defined]
            kept={g.prompt.prompt_id: (len(g.rollouts), len(g.failures)) for g in groups},
            rollouts={
                r.rollout_id: [span.version for span in r.completion.versions]
                for group in groups
                for r in group.rollouts
            },
        )

    choose = selection.choose

    def chosen(iteration: int) -> Any:
        choice = choose(iteration)
        kept = choice.prompts[: config.prompts_per_iteration]
        history.note("chosen", iteration=iteration, prompts=[p.prompt_id for p in kept])
        return choice

    selection.choose = chosen  # type: ignore[method-assign]
    async for _ in train(config, cast(Any, roles), selection, report, 0):
        pass


def _state(group: Group, replica: int) -> str:
    """Of an engine; 'resumed' where it goes on after a transfer, and nothing is compared yet."""
    engine = group.now_at(replica)
    doubted = engine.started and not (engine.paused or engine.loading)
    return "resumed" if doubted and not group.epochs[replica].verified.is_set() else engine.state


async def _nemesis(schedule: Schedule, group: Group, history: History) -> None:
    for fault in schedule.faults:
        await asyncio.sleep(fault.after)
        replica = fault.replica % schedule.replicas
        while True:
            engine = group.now_at(replica)
            alive = engine.moving.is_set() and not engine.dead.is_set()
            state = _state(group, replica)
            if alive and fault.state in ("", state):
                break
            await asyncio.sleep(0.25)
        transfer = state == "loading" or engine.paused
        history.note(
            "fault", kind=fault.kind, replica=replica, engine=engine.name, state=state,
            transfer=transfer,
        )  # fmt: skip
        DEEDS[fault.kind](group, engine)


def drawn(seed: int, kinds: Sequence[str], states: Sequence[str], most: int = 4) -> Schedule:
    """A schedule of one to `most` faults of these kinds in these states; some follow each other at
    once, others minutes later."""
    random = Random(seed)
    faults = [
        Fault(
            kind=random.choice(kinds),
            replica=random.randrange(3),
            state=random.choice(states),
            after=random.choice((0.0, 0.3, 2.0, 15.0, 90.0)) * random.random(),
        )
        for _ in range(random.randint(1, most))
    ]
    return Schedule(
        faults=faults,
        lag=random.choice((0, 1, 2)),
        replicas=random.choice((1, 2, 3)),
        seed=seed,
        train_s=random.choice((0.5, TRAIN_S, 30.0)),
        token_s=random.choice((0.1, 0.5, 2.0)),
    )


def recoveries(history: History) -> list[float]:
    """Seconds from every fault that cost an engine to the moment when all serve again."""
    admitted = [event["at"] for event in history.of("admitted")]
    (end,) = (event["at"] for event in history.of("end"))
    ended = {event["engine"] for event in history.of("ended") if event["at"] < end}
    found = []
    for fault in history.of("fault"):
        later = [at for at in admitted if at > fault["at"]]
        if fault["engine"] in ended and later:
            found.append(later[0] - fault["at"])
    return found
