"""The roles without processes: what they answer, and when, is decided by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlstep.config import Config
from rlstep.interfaces import (
    Conversing,
    Environment,
    GenerateRole,
    RolloutContext,
    StepSplitter,
    Verifier,
)
from rlstep.plugins import ask_labellers
from rlstep.rollouts.counting import CountingGenerator
from rlstep.steps.newline import NewlineSplitter
from rlstep.tasks.arithmetic import AnswerLine
from rlstep.tensors.text import decode_with_ends
from rlstep.testing.tokenizer import ByteTokenizer
from rlstep.types import (
    Completion,
    Failure,
    History,
    Observation,
    Request,
    Rollout,
    Samples,
    Score,
    StepScores,
    TokenIds,
    VersionSpan,
)

TOKENIZER = ByteTokenizer()

Write = Callable[[str, int, int], str]
"""(text of the prefix, child index, seed of the request) -> text of the completion."""


@dataclass
class FakeGenerator:
    """Completions are a function of the request (implements `interfaces.GenerateRole`).

    Answers come in the order of the requests, except that one with a gate waits for it and is
    overtaken meanwhile.
    """

    write: Write
    gates: Mapping[str, asyncio.Event] = field(default_factory=dict)
    """By request_id: the answer is held back until the event is set."""
    failing: Collection[str] = ()
    """request_ids that are answered by a Failure."""
    version: int = 0
    """Stands in every token written from now on."""
    asked: list[Request] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    """request_ids in the order in which they finished."""

    async def generate(
        self, requests: Sequence[Request]
    ) -> AsyncIterator[tuple[Request, tuple[Completion, ...] | Failure]]:
        self.asked += requests
        done: asyncio.Queue[Request] = asyncio.Queue()
        tasks = [asyncio.create_task(self._finish(request, done)) for request in requests]
        try:
            for _ in requests:
                request = await done.get()
                self.answered.append(request.request_id)
                yield request, self._answer(request)
        finally:
            for task in tasks:
                task.cancel()

    async def _finish(self, request: Request, done: asyncio.Queue[Request]) -> None:
        if request.request_id in self.gates:
            await self.gates[request.request_id].wait()
        done.put_nowait(request)

    def _answer(self, request: Request) -> tuple[Completion, ...] | Failure:
        if request.request_id in self.failing:
            return Failure(reason="generator_lost")
        prefix = TOKENIZER.decode(request.prefix_ids.tolist())
        texts = [self.write(prefix, child, request.seed) for child in range(request.n)]
        return tuple(fake_completion(t, request.sampling.max_tokens, self.version) for t in texts)


def fake_completion(text: str, max_tokens: int = 256, version: int = 0) -> Completion:
    """The text's bytes and an end-of-sequence token, cut at `max_tokens`; logprobs are -id/100."""
    assert TOKENIZER.eos_token_id is not None
    ids = np.array([*TOKENIZER.encode(text), TOKENIZER.eos_token_id], dtype=np.int32)
    kept = ids[:max_tokens]
    decoded, ends = decode_with_ends(TOKENIZER, kept)
    return Completion(
        token_ids=kept,
        logprobs=(kept / -100).astype(np.float32),
        text=decoded,
        ends=ends,
        finish_reason="length" if len(kept) < len(ids) else "stop",
        stop_reason=None,
        versions=(VersionSpan(version=version, start=0, end=len(kept)),),
    )


@dataclass
class FakeScorer:
    """Verifies in this process (implements `interfaces.ScoreRole`)."""

    verifier: Verifier = AnswerLine()
    prm: Callable[[Rollout], Sequence[float]] | None = None
    """Step scores of a rollout; None for a run without a PRM."""
    timeouts: Collection[str] = ()
    """rollout_ids whose verification, and step scoring, fails."""
    environment: Environment | None = None
    """Answers in this process."""
    verified: list[Rollout] = field(default_factory=list)
    asked: list[History] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Episodes that were done, or let go of."""

    async def verify(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        scored = [rollout.with_scores(outcome=self._outcome(rollout)) for rollout in rollouts]
        self.verified += scored
        return scored

    async def observe(self, history: History) -> Observation | Failure:
        """By replaying every history from its start; one named in `timeouts` fails."""
        self.asked.append(history)
        if history.episode_id in self.timeouts:
            return Failure(reason="timeout")
        assert self.environment is not None
        episode = self.environment.reset(history.prompt, history.seed)
        seen = [episode.observe(action) for action in history.actions][-1]
        if seen.done:
            self.left.append(history.episode_id)
        return seen

    def leave(self, history: History) -> None:
        self.left.append(history.episode_id)

    async def score_steps(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        prm = self.prm
        if prm is None:
            return list(rollouts)
        return [rollout.with_scores(prm=self._steps(rollout, prm)) for rollout in rollouts]

    def _outcome(self, rollout: Rollout) -> Score:
        if rollout.rollout_id in self.timeouts:
            return Failure(reason="timeout")
        text, answer, asked = self.verifier.item(rollout)
        return self.verifier.verify(text, answer, **asked)

    def _steps(self, rollout: Rollout, prm: Callable[[Rollout], Sequence[float]]) -> Score:
        if rollout.rollout_id in self.timeouts:
            return Failure(reason="not_finite")
        return StepScores(values=np.array(prm(rollout), dtype=np.float32), version=0)


@dataclass
class FakeRoles:
    """All roles; training notes what it was given and makes a version (see interfaces.Roles)."""

    config: Config
    generator: FakeGenerator
    scorer: FakeScorer = field(default_factory=FakeScorer)
    trained: list[Samples] = field(default_factory=list)
    rollouts: list[Sequence[Rollout]] = field(default_factory=list)
    training: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the first training began."""
    may_train: asyncio.Event | None = None
    """Where given, every training waits for it."""
    version: int = 0
    signs: int = 0
    """As `RunRoles` has them."""
    whole: bool = True
    """As `RunRoles` has it."""
    step_models: Sequence[Any] = ()
    """What a run would export beside its policy."""

    def __post_init__(self) -> None:
        self.counting = CountingGenerator(self.generator)

    @property
    def sampled(self) -> int:
        return self.counting.sampled

    def context(self, iteration: int, purpose: str = "") -> RolloutContext:
        return fake_context(
            self.generator if purpose else self.counting,
            self.scorer,
            splitter=self.config.splitter,
            conversing=self.config.rollouts.conversing,
            iteration=iteration,
            purpose=purpose,
            seed=self.config.seed,
        )

    async def peaks_gib(self) -> dict[str, float]:
        return {"driver": 0.5}

    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        return await ask_labellers(self.config.labellers, rollouts, context)

    async def train(
        self, samples: Samples, rollouts: Sequence[Rollout], iteration: int
    ) -> dict[str, float]:
        self.training.set()
        self.whole = False
        if self.may_train is not None:
            await self.may_train.wait()
        self.trained.append(samples)
        self.rollouts.append(rollouts)
        self.version += 1
        self.generator.version = self.version
        self.whole = True
        return {"train/sequences": float(len(samples.sequences))}


def fake_context(
    generator: GenerateRole,
    scorer: FakeScorer,
    *,
    splitter: StepSplitter = NewlineSplitter(),
    conversing: Conversing | None = None,
    iteration: int = 0,
    purpose: str = "",
    seed: int = 0,
) -> RolloutContext:
    return RolloutContext(
        generator=generator,
        scorer=scorer,
        splitter=splitter,
        tokenizer=TOKENIZER,
        conversing=conversing,
        between=conversing and conversing.format.between(TOKENIZER),
        iteration=iteration,
        purpose=purpose,
        seed=seed,
    )


def token_ids(text: str) -> TokenIds:
    """int32 [P]: what the byte tokenizer makes of a prompt."""
    return np.array(TOKENIZER.encode(text), dtype=np.int32)
