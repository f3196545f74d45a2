"""The scorers, seen from the driver: batches, lost replicas, scores of step models."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError

from rlstep.actors.scorer.scorer import Answered, ScorerWorker
from rlstep.actors.scorer.step_models import StepModelRole
from rlstep.config import ScorerConfig
from rlstep.interfaces import Environment, Item, Verifier
from rlstep.measuring.busy import Busy
from rlstep.reporting.role_logs import note_last_lines, role_environment
from rlstep.rollouts.asking import Asking
from rlstep.rollouts.progress import patiently
from rlstep.scoring.processes.verifier_pool import Outcome
from rlstep.types import Failure, History, Observation, Rollout, Score

logger = logging.getLogger(__name__)

T = TypeVar("T")

_CLOSE_S = 60.0
"""Longest wait for a replica to end its processes; then it is ended by force."""
_SLACK_S = 60.0
"""On top of every deadline, for what a busy machine takes."""
_START_S = 600.0
"""Longest time for an actor and its verifier processes to start. A process of its own that stands
still ends that sooner, with its reason."""


class ScorerGroup:
    """Every replica of the scorer role (implements `interfaces.ScoreRole`).

    A replica has no state: one that dies, or does not answer, is started again and asked once more.

    Args:
        verifier: judges final answers.
        models: every step model with what computes its predictions.
        environment: answers the policy's turns, in a run whose rollouts are conversations.
        actor_options: Ray options of each replica.
    """

    def __init__(
        self,
        config: ScorerConfig,
        verifier: Verifier,
        models: Sequence[StepModelRole],
        actor_options: dict[str, Any],
        environment: Environment | None = None,
    ) -> None:
        self.versions = {role.model.source: 0 for role in models}
        """Updates each step model has made; travels with every score."""
        self.busy = Busy()
        """The run's, where there is a run."""
        self.signs = 0
        """Grows while anything that the replicas were asked gets done."""
        self._config = config
        self._verifier = verifier
        self._environment = environment
        self.models = models
        self._options = actor_options
        self._changing = asyncio.Lock()
        self._leaving: dict[int, list[History]] = {}
        self._asking = [Asking(partial(self._observe, i)) for i in range(config.replicas)]
        self._actors: list[Any] = [self._create(i) for i in range(config.replicas)]
        self._free: asyncio.Queue[int] = asyncio.Queue()
        """Replicas with nothing to do: each verifies one batch at a time, so that the deadline of a
        batch is its own."""
        for replica in range(config.replicas):
            self._free.put_nowait(replica)

    def _create(self, replica: int) -> Any:
        environment = {"env_vars": role_environment(f"scorer-{replica}")}
        options = {
            "num_cpus": 0,
            "max_concurrency": 1000,
            "runtime_env": environment,
            **self._options,
        }
        worker = ray.remote(ScorerWorker).options(**options)
        return worker.remote(self._config, self._verifier, self._environment)

    async def verify(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """See `interfaces.ScoreRole.verify`. A batch that two replicas were lost on has the
        Failure 'scorer_lost' for its outcomes.

        Raises:
            RuntimeError: a replica does not start; names it and the cause.
        """
        if not rollouts:
            return []
        items: list[Item] = [self._verifier.item(rollout) for rollout in rollouts]
        replica = await self._free.get()
        try:
            with self.busy.of("scorer"):
                outcomes = await self._outcomes(replica, items)
        finally:
            self._free.put_nowait(replica)
        return [r.with_scores(outcome=o) for r, o in zip(rollouts, outcomes, strict=True)]

    async def _outcomes(self, replica: int, items: list[Item]) -> list[Outcome]:
        lost = ""
        for _ in range(2):
            actor = self._actors[replica]
            try:
                return await self._while_at_work(actor, actor.verify.remote(items))
            except (RayActorError, TimeoutError) as error:
                lost = f"scorer {replica}: {error}"
                await self._replace(replica, actor, error)
        return [Failure(reason="scorer_lost", detail=lost)] * len(items)

    async def _while_at_work(self, actor: Any, answer: Awaitable[T], turns: int = 1) -> T:
        """What a replica is asked for, as long as its pool decides anything: every item has a
        deadline of its own there, and waits for others.

        Args:
            turns: of the longest history, each of which may take a deadline.

        Raises:
            TimeoutError: it gives no sign of life, or decides nothing while a process could start
                and all turns of a history be replayed.
        """
        deadline = self._config.deadline_s
        limit = _SLACK_S + _START_S + 2 * deadline * turns

        async def idle_s() -> float:
            idle = await actor.idle_s.remote()
            self.signs += idle < limit
            return idle

        found = await patiently(answer, idle_s, every_s=_SLACK_S + deadline, limit_s=limit)
        self.signs += 1
        return found

    async def _replace(self, replica: int, actor: Any, error: Exception) -> None:
        """Start a lost replica again, if nobody has yet: of one death many hear."""
        async with self._changing:
            if self._actors[replica] is actor:
                logger.warning("scorer %d is lost and started again: %s", replica, error)
                await self._restart(replica)

    async def _restart(self, replica: int) -> None:
        ray.kill(self._actors[replica])
        self._actors[replica] = self._create(replica)
        try:
            await asyncio.wait_for(self._actors[replica].verify.remote([]), _START_S)
        except TimeoutError as error:
            note_last_lines(error, f"scorer-{replica}")
            told = f"scorer {replica} does not start within {_START_S:.0f} s"
            raise RuntimeError(told) from error
        except RayActorError as error:
            note_last_lines(error, f"scorer-{replica}")
            raise RuntimeError(f"scorer {replica} does not start: {error}") from error

    async def observe(self, history: History) -> Observation | Failure:
        """See `interfaces.ScoreRole.observe`. An answer that two replicas were lost on is a
        Failure('scorer_lost').

        Raises:
            RuntimeError: a replica does not start; names it and the cause.
        """
        with self.busy.of("scorer"):
            return await self._asking[self._home(history)].ask(history)

    async def _observe(
        self, replica: int, histories: Sequence[History]
    ) -> AsyncIterator[tuple[History, Observation | Failure]]:
        """The answers of one replica; what a lost one left unanswered is asked once more."""
        pending, lost = dict(enumerate(histories)), ""
        for _ in range(2):
            actor = self._actors[replica]
            try:
                async with aclosing(self._stream(actor, pending)) as answers:
                    async for history, answer in answers:
                        yield history, answer
                return
            except (RayActorError, TimeoutError) as error:
                lost = f"scorer {replica}: {error}"
                await self._replace(replica, actor, error)
        for history in pending.values():
            yield history, Failure(reason="scorer_lost", detail=lost)

    async def _stream(
        self, actor: Any, pending: dict[int, History]
    ) -> AsyncGenerator[tuple[History, Observation | Failure], None]:
        """Answers as they come; `pending` keeps those that have none."""
        names = list(pending)
        stream = actor.observe.remote(list(pending.values()))
        turns = max(len(history.actions) for history in pending.values())
        try:
            while pending:
                for index, answer in await self._while_at_work(actor, _next(stream), turns):
                    yield pending.pop(names[index]), answer
        finally:
            if pending:
                ray.cancel(stream)  # the caller left, or the replica is lost

    def leave(self, history: History) -> None:
        """See `interfaces.ScoreRole.leave`; with a replica that is lost the episode is, too."""
        if not self._leaving:
            asyncio.get_running_loop().call_soon(self._send_leaving)
        self._leaving.setdefault(self._home(history), []).append(history)

    def _send_leaving(self) -> None:
        leaving, self._leaving = self._leaving, {}
        for replica, histories in leaving.items():
            self._actors[replica].leave.remote(histories)

    def _home(self, history: History) -> int:
        """The replica whose processes have an episode."""
        name = history.affinity or history.episode_id
        return zlib.crc32(name.encode()) % len(self._actors)

    async def score_steps(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """See `interfaces.ScoreRole.score_steps`; unchanged where the run has no step model."""
        scored = list(rollouts)
        if not scored:
            return []
        sources = [role.model.source for role in self.models]
        columns = await asyncio.gather(*(self._scores(role, rollouts) for role in self.models))
        for source, scores in zip(sources, columns, strict=True):
            scored = [r.with_scores(**{source: s}) for r, s in zip(scored, scores, strict=True)]
        return scored

    @property
    def actors(self) -> list[Any]:
        """By replica."""
        return list(self._actors)

    async def _scores(self, role: StepModelRole, rollouts: Sequence[Rollout]) -> list[Score]:
        source = role.model.source
        with self.busy.of(source):
            return await role.score(rollouts, self.versions[source])

    async def close(self) -> None:
        """End the actors; of one that is lost nothing is left to end."""
        for asking in self._asking:
            await asking.close()
        await asyncio.gather(*map(self._close, range(len(self._actors))))

    async def _close(self, replica: int) -> None:
        actor = self._actors[replica]
        try:
            await asyncio.wait_for(actor.close.remote(), _CLOSE_S)
        except (RayActorError, TimeoutError) as error:
            logger.warning("scorer %d was lost before it was closed: %r", replica, error)
        ray.kill(actor)


async def _next(stream: Any) -> list[Answered]:
    return await (await anext(stream))
