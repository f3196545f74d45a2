"""Conversations with an environment: a turn of the policy is a step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np

from rlstep.checks import at_least
from rlstep.environments.plain_turns import PlainTurns
from rlstep.interfaces import (
    Conversing,
    Environment,
    RolloutContext,
    SampleOne,
    TurnFormat,
)
from rlstep.rollouts.asking import Asking
from rlstep.rollouts.requests import request_seed
from rlstep.rollouts.verification import verified
from rlstep.tensors.text import decode_with_ends
from rlstep.types import (
    Action,
    Completion,
    Failure,
    Group,
    History,
    Observed,
    OutcomeScore,
    Prompt,
    Request,
    Rollout,
    RolloutScore,
    Sampling,
    Score,
    StepScores,
    Verdict,
    VersionSpan,
)

_COUNTED = "environment/"
"""What the sources of an environment's counts begin with."""


@dataclass(frozen=True, kw_only=True)
class Conversation(Conversing):
    """The policy and an environment take turns, many conversations at the same time.

    The next turn is sampled after exactly the token ids so far and those of the observation, so
    that nothing is encoded again, and a turn prefills only what is new. A conversation ends where
    the environment is done, or after `turns` turns ('stop'); or it is cut ('length'): in a turn
    that its limit cuts, about which the environment is not asked, or where what was observed leaves
    no room for another one. What is observed after the last turn nobody reads, and is left out.

    Every rollout carries 'environment', the turns' rewards as StepScores, and 'return', their sum;
    what the environment counts, as StepScores, too ('environment/NAME', 0 where it says nothing);
    and where it decides, its outcome. A conversation that the environment fails is a
    failure of its group, whose others go on.
    """

    sources: ClassVar[frozenset[str]] = frozenset({"environment", "return"})

    environment: Environment
    """What answers the policy's turns."""
    samples_per_prompt: int = 8
    """Conversations on each prompt: the size of its group. All have one seed of the
    environment."""
    turns: int = 8
    """Most turns of the policy."""
    turn_tokens: int = 0
    """Most tokens that are sampled in one turn; 0 sets no limit of its own."""
    sampling: Sampling = Sampling()
    """How turns are drawn. max_tokens is for the whole conversation, what is observed included."""
    format: TurnFormat = PlainTurns()
    """How observations stand between the turns."""

    def __post_init__(self) -> None:
        at_least("rollouts.samples_per_prompt", self.samples_per_prompt, 1)
        at_least("rollouts.turns", self.turns, 1)
        at_least("rollouts.turn_tokens", self.turn_tokens, 0)

    def alone(self, samples_per_prompt: int, sampling: Sampling) -> Conversation:
        return replace(self, samples_per_prompt=samples_per_prompt, sampling=sampling)

    async def collect(
        self, prompts: Sequence[Prompt], context: RolloutContext
    ) -> AsyncIterator[Group]:
        async with aclosing(verified(self._held(prompts, context), context)) as groups:
            async for group in groups:
                yield group

    async def _held(
        self, prompts: Sequence[Prompt], context: RolloutContext
    ) -> AsyncGenerator[Group, None]:
        """Groups as their last conversation ends."""
        asking = Asking(context.generator.generate)
        tasks = [
            asyncio.create_task(self._group(prompt, asking.ask, context)) for prompt in prompts
        ]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asking.close()

    async def _group(self, prompt: Prompt, sample: SampleOne, context: RolloutContext) -> Group:
        name = f"{context.scope}/{prompt.prompt_id}"
        seed = request_seed(context.seed, name)
        talks = [
            _Talk(
                rollout_id=f"{name}/{index}",
                prompt=prompt,
                environment_seed=_environment_seed(name, context),
                sampling=self.sampling,
                seed=seed + index,
            )
            for index in range(self.samples_per_prompt)
        ]
        found = await self._all(talks, sample, context)
        rollouts = [
            self._rollout(talk, completion, (index, seed), context)
            for index, (talk, completion) in enumerate(zip(talks, found, strict=True))
            if not isinstance(completion, Failure)
        ]
        failures = tuple(answer for answer in found if isinstance(answer, Failure))
        return Group(prompt=prompt, rollouts=tuple(rollouts), failures=failures)

    async def go_on(
        self,
        parent: Rollout,
        steps: int,
        request: Request,
        sample: SampleOne,
        context: RolloutContext,
    ) -> list[Rollout] | Failure:
        scope, prompt_id = parent.rollout_id.split("/")[0], parent.prompt.prompt_id
        kept = parent.before(steps)
        begun = _Talk(
            rollout_id=request.request_id,
            prompt=parent.prompt,
            environment_seed=_environment_seed(f"{scope}/{prompt_id}", context),
            sampling=parent.sampling,
            seed=request.seed,
            affinity=parent.rollout_id,
        )
        _take_over(begun, parent, steps, context)
        talks = [begun.copy(index) for index in range(request.n)]
        found = await self._all(talks, sample, context)
        if failed := next((answer for answer in found if isinstance(answer, Failure)), None):
            return failed
        return [
            self._rollout(talk, completion, (index, request.seed), context, parent, kept)
            for index, (talk, completion) in enumerate(zip(talks, found, strict=True))
            if not isinstance(completion, Failure)
        ]

    async def _all(
        self, talks: Sequence[_Talk], sample: SampleOne, context: RolloutContext
    ) -> list[Completion | Failure]:
        tasks = [asyncio.create_task(self._talk(talk, sample, context)) for talk in talks]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _talk(
        self, talk: _Talk, sample: SampleOne, context: RolloutContext
    ) -> Completion | Failure:
        """Take turns until the end."""
        assert context.between is not None, "a context without a format of turns"
        done = False
        try:
            reason = "length"
            while len(talk.actions) < self.turns:
                answer = await sample(talk.request(self.turn_tokens))
                if isinstance(answer, Failure):
                    return answer
                [turn] = answer
                talk.say(turn)
                if turn.truncated:
                    break
                seen = await context.scorer.observe(talk.history())
                if isinstance(seen, Failure):
                    return seen
                talk.rewards[-1], talk.counts[-1] = seen.reward, seen.counts
                talk.success = talk.success if seen.success is None else seen.success
                done = seen.done
                if done or len(talk.actions) == self.turns:
                    reason = "stop"
                    break
                more = context.between(seen.text, talk.ids[-1])
                if len(talk.ids) + len(more) >= talk.sampling.max_tokens:
                    break
                talk.see(more)
            return talk.completion(reason, context)
        finally:
            if talk.actions and not done:
                context.scorer.leave(talk.history())

    def _rollout(
        self,
        talk: _Talk,
        completion: Completion,
        drawn: tuple[int, int],
        context: RolloutContext,
        parent: Rollout | None = None,
        inherited: int = 0,
    ) -> Rollout:
        """The record of a talk that was `drawn` as child so and so of a seed."""
        index, seed = drawn
        [steps] = context.splitter.split_all([completion])
        return Rollout(
            rollout_id=talk.rollout_id,
            prompt=talk.prompt,
            completion=completion,
            steps=steps,
            sample_index=index,
            iteration=context.iteration,
            seed=seed,
            sampling=talk.sampling,
            parent=parent.rollout_id if parent else None,
            inherited=inherited,
            scores=self._scores(talk),
        )

    def _scores(self, talk: _Talk) -> dict[str, Score]:
        rewards = np.array(talk.rewards, dtype=np.float32)
        scores: dict[str, Score] = {
            "environment": StepScores(values=rewards, version=0),
            "return": RolloutScore(value=float(rewards.sum(dtype=np.float64))),
        }
        for name in sorted({name for counts in talk.counts for name in counts}):
            counted = np.array([counts.get(name, 0.0) for counts in talk.counts], np.float32)
            scores[f"{_COUNTED}{name}"] = StepScores(values=counted, version=0)
        if self.environment.decides:
            solved = talk.success is True
            verdict = Verdict.CORRECT if solved else Verdict.WRONG
            scores["outcome"] = OutcomeScore(value=float(solved), verdict=verdict, extracted="")
        return scores


def _environment_seed(name: str, context: RolloutContext) -> int:
    """Of a prompt's group; branches find it again by the scope that their ids begin with."""
    return request_seed(context.seed, f"{name}/environment")


@dataclass
class _Talk:
    """A conversation under way."""

    rollout_id: str
    prompt: Prompt
    environment_seed: int
    sampling: Sampling
    seed: int
    """Of the first turn that is sampled."""
    affinity: str = ""
    """Of the episode: the rollout that it goes on with, where it does."""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    versions: list[VersionSpan] = field(default_factory=list)
    observed: list[Observed] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    counts: list[Mapping[str, float]] = field(default_factory=list)
    success: bool | None = None
    sampled: list[Completion] = field(default_factory=list)
    """The turns that were sampled here, none that was inherited."""

    def request(self, turn_tokens: int) -> Request:
        """For the next turn. The first is drawn as a completion would be; the seeds of the others
        follow from its, so that whoever asks for the same continuation sees the same."""
        turn = len(self.sampled)
        name = f"{self.rollout_id}/turn{turn}" if turn else self.rollout_id
        left = max(1, self.sampling.max_tokens - len(self.ids))
        most = min(left, turn_tokens) if turn_tokens else left
        return Request(
            request_id=name,
            prefix_ids=np.array([*self.prompt.token_ids, *self.ids], dtype=np.int32),
            n=1,
            seed=request_seed(self.seed, f"turn{turn}") if turn else self.seed,
            sampling=_limited(self.sampling, most),
            affinity=self.prompt.prompt_id,
        )

    def say(self, turn: Completion) -> None:
        start = len(self.ids)
        self.versions += [
            VersionSpan(version=v.version, start=v.start + start, end=v.end + start)
            for v in turn.versions
        ]
        self.ids += turn.token_ids.tolist()
        self.logprobs += turn.logprobs.tolist()
        self.actions.append(Action(text=turn.text, token_ids=tuple(turn.token_ids.tolist())))
        self.rewards.append(0.0)
        self.counts.append({})
        self.sampled.append(turn)

    def see(self, ids: list[int]) -> None:
        assert ids, f"{self.rollout_id}: the format put nothing between two turns"
        self.observed.append(Observed(start=len(self.ids), end=len(self.ids) + len(ids)))
        self.ids += ids
        self.logprobs += [0.0] * len(ids)

    def history(self) -> History:
        return History(
            episode_id=self.rollout_id,
            prompt=self.prompt,
            seed=self.environment_seed,
            actions=tuple(self.actions),
            affinity=self.affinity,
        )

    def copy(self, index: int) -> _Talk:
        """Sibling `index` of this talk, which has said nothing of its own yet."""
        return replace(
            self,
            rollout_id=f"{self.rollout_id}/{index}",
            seed=self.seed + index,
            **{name: list(getattr(self, name)) for name in _GROWING},
        )

    def completion(self, finish_reason: str, context: RolloutContext) -> Completion:
        token_ids = np.array(self.ids, dtype=np.int32)
        text, ends = decode_with_ends(context.tokenizer, token_ids)
        cached = [turn.cached for turn in self.sampled]
        return Completion(
            token_ids=token_ids,
            logprobs=np.array(self.logprobs, dtype=np.float32),
            text=text,
            ends=ends,
            finish_reason=finish_reason,
            stop_reason=self.sampled[-1].stop_reason if finish_reason == "stop" else None,
            versions=tuple(self.versions),
            observed=tuple(self.observed),
            cached=None if None in cached else sum(n for n in cached if n is not None),
        )


@lru_cache(maxsize=1024)
def _limited(sampling: Sampling, most: int) -> Sampling:
    """For one turn of at most so many tokens."""
    return replace(sampling, max_tokens=most, min_tokens=min(most, sampling.min_tokens))


_GROWING = ("ids", "logprobs", "versions", "observed", "actions", "rewards", "counts", "sampled")


def _take_over(talk: _Talk, parent: Rollout, steps: int, context: RolloutContext) -> None:
    """Take over a rollout's first `steps` turns, token by token."""
    whole, kept = parent.completion, parent.before(steps)
    talk.ids = whole.token_ids[:kept].tolist()
    talk.logprobs = whole.logprobs[:kept].tolist()
    talk.versions = [
        replace(span, end=min(span.end, kept)) for span in whole.versions if span.start < kept
    ]
    talk.observed = [span for span in whole.observed if span.end <= kept]
    rewards = parent.step_scores("environment")
    assert rewards is not None, f"{parent.rollout_id}: no conversation"
    counts = {
        source.removeprefix(_COUNTED): score.values
        for source, score in parent.scores.items()
        if source.startswith(_COUNTED) and isinstance(score, StepScores)
    }
    for k, step in enumerate(parent.steps[:steps]):
        ids = whole.token_ids[step.start : step.end]
        text, _ = decode_with_ends(context.tokenizer, ids)  # as the generator gave the turn
        talk.actions.append(Action(text=text, token_ids=tuple(ids.tolist())))
        talk.rewards.append(float(rewards.values[k]))
        talk.counts.append({name: float(values[k]) for name, values in counts.items()})
