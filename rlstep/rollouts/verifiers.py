"""Episodes of an environment server of verifiers (0.4), which samples through a door of ours."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, ClassVar

import numpy as np

from rlstep.checks import at_least
from rlstep.environments.plain_turns import PlainTurns
from rlstep.interfaces import (
    Conversing,
    Environment,
    Episode,
    GenerateRole,
    RolloutContext,
    SampleOne,
    TurnFormat,
)
from rlstep.rollouts.generate_door import GenerateDoor
from rlstep.rollouts.requests import request_seed
from rlstep.rollouts.verification import verified
from rlstep.rollouts.verifiers_wire import EpisodeError, EpisodeWire
from rlstep.tensors.text import decode_with_ends
from rlstep.types import (
    Completion,
    Failure,
    Group,
    Observed,
    OutcomeScore,
    Prompt,
    Request,
    Rollout,
    RolloutScore,
    Sampling,
    Score,
    TokenIds,
    Verdict,
    VersionSpan,
)

_LARGEST_CONTEXT = 1 << 24
"""Of the door, whose requests are cut to what is left of each conversation."""


@dataclass(frozen=True, kw_only=True)
class _Elsewhere(Environment):
    """The server's own: no episode of it is played here."""

    replays: ClassVar[bool] = False

    outcome: bool

    @property
    def decides(self) -> bool:  # type: ignore[override]
        return self.outcome

    def reset(self, prompt: Prompt, seed: int) -> Episode:
        raise NotImplementedError("an episode of verifiers is played by its server")


@dataclass(frozen=True, kw_only=True)
class Verifiers(Conversing):
    """Episodes that a server of `verifiers.v1` plays: `EnvServer`, or its `serve_env`.

    A prompt's meta has `task_data`, what the task's own `data.model_dump(mode="json")` is (a column
    of a `Jsonl` file, say); its token ids are those that the server's renderer makes of it. The
    server plays the episode and asks for each turn over a door (`GenerateDoor`) that is open while
    groups are collected, on the loopback, with a secret of that time: it runs on the driver's
    machine, in an environment of its own, for its requirements exclude ours. Nothing of it is
    imported here; what goes over the wire is msgpack.

    A rollout's tokens, logprobs and versions are those that the generators gave, and are compared
    with the server's record. A turn is a step. Its 'return' is the sum of the trace's rewards by
    their weights: verifiers has none for a turn of its own.

    An episode is a failure of its group, whose others go on, where the server says so or is gone
    ('crashed', 'unreachable'), where it takes too long ('timeout'), where its agents that are
    trained are not one ('several_agents'), and where it cannot be trained on as it was sampled: it
    begins with another prompt ('other_prompt'), earlier turns were rewritten ('rewritten'), or the
    record has other tokens ('other_tokens').
    """

    sources: ClassVar[frozenset[str]] = frozenset({"return"})
    format: ClassVar[TurnFormat] = PlainTurns()  # type: ignore[misc]  # the server's, in truth

    address: str
    """Of the server: tcp://127.0.0.1:5000."""
    tokenizer: str
    """Where the server finds the policy's tokenizer, of whose chat template it makes prompts."""
    samples_per_prompt: int = 8
    """Episodes of each prompt: the size of its group."""
    turn_tokens: int = 0
    """Most tokens that are sampled in one turn; 0 sets no limit of its own."""
    sampling: Sampling = Sampling()
    """How turns are drawn; what ends one is the renderer's to say. max_tokens is for the whole
    conversation, what is observed included."""
    wins: float | None = None
    """An episode with this return or more is right, any other is wrong; None leaves that to the
    run's verifier, which reads the last turn."""
    deadline_s: float = 600.0
    """Longest time of an episode; then it is cancelled."""

    def __post_init__(self) -> None:
        if not self.address.startswith(("tcp://127.0.0.1:", "tcp://localhost:", "ipc://")):
            raise ValueError(
                f"rollouts.address is {self.address!r}; the server samples over the loopback, so it"
                " must be like tcp://127.0.0.1:5000"
            )
        at_least("rollouts.samples_per_prompt", self.samples_per_prompt, 1)
        at_least("rollouts.turn_tokens", self.turn_tokens, 0)
        at_least("rollouts.deadline_s", self.deadline_s, 1.0)
        if self.wins is not None and not isfinite(self.wins):
            raise ValueError(f"rollouts.wins is {self.wins}; it must be a finite number or None")
        if self.sampling.stop or self.sampling.stop_token_ids:
            raise ValueError(
                "rollouts.sampling.stop and stop_token_ids are set; what ends a turn is the"
                " renderer's to say: leave them out"
            )

    @property
    def environment(self) -> Environment:  # type: ignore[override]
        return _Elsewhere(outcome=self.wins is not None)

    def alone(self, samples_per_prompt: int, sampling: Sampling) -> Verifiers:
        return replace(self, samples_per_prompt=samples_per_prompt, sampling=sampling)

    async def go_on(
        self,
        parent: Rollout,
        steps: int,
        request: Request,
        sample: SampleOne,
        context: RolloutContext,
    ) -> Failure:
        return Failure(reason="environment_lost", detail="its server cannot go on from the middle")

    async def collect(
        self, prompts: Sequence[Prompt], context: RolloutContext
    ) -> AsyncIterator[Group]:
        """Raises: ValueError: a prompt without its task's data."""
        for prompt in prompts:
            if not isinstance(prompt.meta.get("task_data"), dict):
                raise ValueError(
                    f"prompt {prompt.prompt_id!r} has no object 'task_data' in its meta, which is"
                    " what a task of verifiers has as data.model_dump()"
                )
        async with aclosing(verified(self._played(prompts, context), context)) as groups:
            async for group in groups:
                yield group

    async def _played(
        self, prompts: Sequence[Prompt], context: RolloutContext
    ) -> AsyncGenerator[Group, None]:
        heard = _Heard(context.generator, self.sampling.max_tokens)
        secret = secrets.token_urlsafe(32)
        door = GenerateDoor(heard, secret, context=_LARGEST_CONTEXT, seed=context.seed)
        client = {
            "type": "train",
            "base_url": f"{await door.open()}/v1",
            "api_key_var": "RLSTEP_DOOR_TOKEN",  # any but the default, which reads more than a key
            "headers": {"Authorization": f"Bearer {secret}"},
            "renderer_model_name": self.tokenizer,
        }
        wire = EpisodeWire(self.address)
        tasks = [
            asyncio.create_task(self._group(prompt, _Played(wire, heard, client), context))
            for prompt in prompts
        ]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await wire.close()
            await door.close()

    async def _group(self, prompt: Prompt, played: _Played, context: RolloutContext) -> Group:
        name = f"{context.scope}/{prompt.prompt_id}"
        seed = request_seed(context.seed, name)
        made = [
            self._rollout(prompt, f"{name}/{index}", (index, seed), played, context)
            for index in range(self.samples_per_prompt)
        ]
        found = await asyncio.gather(*made)
        return Group(
            prompt=prompt,
            rollouts=tuple(each for each in found if isinstance(each, Rollout)),
            failures=tuple(each for each in found if isinstance(each, Failure)),
        )

    async def _rollout(
        self,
        prompt: Prompt,
        rollout_id: str,
        drawn: tuple[int, int],
        played: _Played,
        context: RolloutContext,
    ) -> Rollout | Failure:
        """Child so and so of a seed."""
        index, seed = drawn
        trace = await self._trace(prompt, rollout_id, seed + index, played)
        if isinstance(trace, Failure):
            return trace
        turns = played.heard.turns.get(trace["id"], [])
        completion = _completion(prompt, turns, trace, context)
        if isinstance(completion, Failure):
            return completion
        [steps] = context.splitter.split_all([completion])
        return Rollout(
            rollout_id=rollout_id,
            prompt=prompt,
            completion=completion,
            steps=steps,
            sample_index=index,
            iteration=context.iteration,
            seed=seed,
            sampling=self.sampling,
            scores=self._scores(trace),
        )

    async def _trace(
        self, prompt: Prompt, name: str, seed: int, played: _Played
    ) -> dict[str, Any] | Failure:
        """The server's record of the agent that is trained."""
        sampling = self.sampling
        asked = {
            "task_data": prompt.meta["task_data"],
            "client": played.client,
            "model": name,
            "sampling": {
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
                "max_tokens": self.turn_tokens or sampling.max_tokens,
                "min_tokens": sampling.min_tokens,
                "seed": seed,
            },
        }
        try:
            traces = await asyncio.wait_for(played.wire.run(asked), self.deadline_s)
        except TimeoutError:
            return Failure(reason="timeout", detail=f"no episode within {self.deadline_s:g} s")
        except ConnectionError as error:
            return Failure(reason="unreachable", detail=str(error))
        except EpisodeError as error:
            return Failure(reason="crashed", detail=str(error))
        trained = [trace for trace in traces if trace["agent"]["trainable"]]
        if len(trained) != 1:
            names = sorted(trace["agent"]["name"] for trace in trained)
            return Failure(reason="several_agents", detail=f"{names} are trained, and not one")
        rewards = [reward["score"] * reward["weight"] for reward in trained[0]["rewards"].values()]
        if not isfinite(sum(rewards)):
            return Failure(reason="bad_observation", detail=f"the rewards are {rewards}")
        return trained[0]

    def _scores(self, trace: dict[str, Any]) -> dict[str, Score]:
        total = float(sum(r["score"] * r["weight"] for r in trace["rewards"].values()))
        scores: dict[str, Score] = {"return": RolloutScore(value=total)}
        if self.wins is not None:
            right = total >= self.wins
            verdict = Verdict.CORRECT if right else Verdict.WRONG
            scores["outcome"] = OutcomeScore(value=float(right), verdict=verdict, extracted="")
        return scores


@dataclass(frozen=True)
class _Played:
    """What the episodes of one collection share."""

    wire: EpisodeWire
    heard: _Heard
    client: dict[str, Any]
    """How the server reaches the door."""


class _Heard:
    """The generators, as the door asks them, and what they answered (`interfaces.GenerateRole`).

    Args:
        longest: most tokens of a conversation after its prompt.
    """

    def __init__(self, generator: GenerateRole, longest: int) -> None:
        self._generator = generator
        self._longest = longest
        self.turns: dict[str, list[tuple[Request, Completion]]] = {}
        """By the trace that asked, which the server names as its session, in order."""

    async def generate(self, requests: Sequence[Request]) -> AsyncIterator[Any]:
        for request in requests:
            turns = self.turns.setdefault(request.affinity, [])
            answer = await self._answer(request, turns)
            if not isinstance(answer, Failure):
                turns.append((request, answer[0]))
            yield request, answer

    async def _answer(
        self, request: Request, turns: list[tuple[Request, Completion]]
    ) -> tuple[Completion, ...] | Failure:
        begun = len(turns[0][0].prefix_ids) if turns else len(request.prefix_ids)
        left = begun + self._longest - len(request.prefix_ids)
        if left < 1:
            detail = f"the conversation has no room left of {self._longest} tokens"
            return Failure(reason="rejected", detail=detail)
        sampling = request.sampling
        most = min(left, sampling.max_tokens)
        # Every turn has the episode's seed, of which the later ones would draw the first's noise.
        asked = replace(
            request,
            seed=request_seed(request.seed, f"turn{len(turns)}") if turns else request.seed,
            sampling=replace(sampling, max_tokens=most, min_tokens=min(most, sampling.min_tokens)),
        )
        [(_, answer)] = [item async for item in self._generator.generate([asked])]
        return answer


def _completion(
    prompt: Prompt,
    turns: Sequence[tuple[Request, Completion]],
    trace: dict[str, Any],
    context: RolloutContext,
) -> Completion | Failure:
    """Everything after the prompt, token by token as it was sampled."""
    if not turns:
        return Failure(reason="crashed", detail="the policy was never asked")
    first = turns[0][0].prefix_ids
    if not np.array_equal(first, prompt.token_ids):
        had, has = len(prompt.token_ids), len(first)
        detail = f"the server renders the prompt as {has} other tokens; the task has {had}"
        return Failure(reason="other_prompt", detail=detail)
    ids: list[int] = []
    logprobs: list[float] = []
    versions: list[VersionSpan] = []
    observed: list[Observed] = []
    for request, turn in turns:
        before = request.prefix_ids[len(first) :].tolist()
        if before[: len(ids)] != ids:
            return Failure(reason="rewritten", detail=f"turn {len(versions)} begins otherwise")
        if len(before) > len(ids):
            observed.append(Observed(start=len(ids), end=len(before)))
        ids, start = [*before, *turn.token_ids.tolist()], len(before)
        logprobs += [0.0] * (start - len(logprobs)) + turn.logprobs.tolist()
        versions += [
            replace(span, start=span.start + start, end=span.end + start) for span in turn.versions
        ]
    recorded = [number for node in trace["nodes"] for number in node["token_ids"]]
    if recorded != [*first.tolist(), *ids]:
        return Failure(reason="other_tokens", detail=f"the record has {len(recorded)} tokens")
    token_ids: TokenIds = np.array(ids, dtype=np.int32)
    text, ends = decode_with_ends(context.tokenizer, token_ids)
    last = turns[-1][1]
    return Completion(
        token_ids=token_ids,
        logprobs=np.array(logprobs, dtype=np.float32),
        text=text,
        ends=ends,
        finish_reason=last.finish_reason,
        stop_reason=last.stop_reason,
        versions=tuple(versions),
        observed=tuple(observed),
    )
