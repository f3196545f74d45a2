"""What the parity probe compares, with roles that say what the test decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlstep.actors.weight_sync import (
    DEEP_EVERY,
    DEEP_TOKENS,
    PROBE_TOKENS,
    NotFinite,
    WeightSync,
)
from rlstep.config import GeneratorConfig
from rlstep.types import Completion, TokenIds, VersionSpan

PROBE = np.arange(70, dtype=np.int32)


class Generators:
    """Two replicas whose logprobs are off by `off(replica, position)`."""

    recoveries = 0

    def __init__(self, off: Any) -> None:
        self.config = GeneratorConfig(block_size=32)
        self.off = off
        self.asked: list[tuple[int, int]] = []

    async def probe(self, prompt: TokenIds, tokens: int, name: str) -> list[Completion]:
        self.asked.append((len(prompt), tokens))
        at = range(len(prompt), len(prompt) + tokens)
        return [
            Completion(
                token_ids=np.full(tokens, 7, np.int32),
                logprobs=np.array([-1.0 + self.off(replica, i) for i in at], np.float32),
                text="",
                ends=np.zeros(tokens, np.int32),
                finish_reason="length",
                stop_reason=None,
                versions=(VersionSpan(version=0, start=0, end=tokens),),
            )
            for replica in range(2)
        ]


class Learner:
    says = -1.0

    async def predict(self, rows: list[TokenIds]) -> list[np.ndarray]:
        return [np.full(len(row), self.says, np.float32) for row in rows]


def probing(off: Any, longest: int) -> tuple[WeightSync, Generators]:
    generators: Any = Generators(off)
    learner: Any = Learner()
    return WeightSync(learner, generators, PROBE, longest), generators


async def test_the_probe_is_shallow_and_as_deep_as_the_longest_sequence() -> None:
    sync, generators = probing(lambda replica, place: 0.0, 1000)
    assert await sync._verify() == 0.0
    assert generators.asked == [(70, PROBE_TOKENS), (1000 - DEEP_TOKENS, DEEP_TOKENS)]


async def test_the_deep_probe_is_due_at_the_first_sync_and_at_every_tenth() -> None:
    sync, generators = probing(lambda replica, place: 0.0, 1000)
    deep = []
    for sync.version in range(25):
        generators.asked.clear()
        await sync._verify()
        if len(generators.asked) == 2:
            deep.append(sync.version)
    assert deep == [0, DEEP_EVERY, 2 * DEEP_EVERY]


@pytest.mark.parametrize("longest", [10, 70, 70 + PROBE_TOKENS])
async def test_where_no_sequence_is_longer_there_is_one_probe(longest: int) -> None:
    sync, generators = probing(lambda replica, place: 0.0, longest)
    await sync._verify()
    assert generators.asked == [(70, PROBE_TOKENS)]


@pytest.mark.parametrize(
    ("off", "message"),
    [
        (lambda replica, place: 0.01 * (replica == 1), "generator 1: .* by 0.01 .* 70 tokens"),
        (lambda replica, place: 0.02 * (place > 500), "generator 0: .* by 0.02 .* 998 tokens"),
        (lambda replica, place: float("nan") * (place > 500), "generator 0: .* by nan"),
    ],
)
async def test_a_difference_is_told_with_its_replica_and_depth(off: Any, message: str) -> None:
    sync, _ = probing(off, 1000)
    with pytest.raises(RuntimeError, match=message):
        await sync._verify()


async def test_the_largest_difference_is_kept() -> None:
    sync, _ = probing(lambda replica, place: 1e-5 * (place > 500), 1000)
    assert await sync._verify() == pytest.approx(1e-5, rel=0.05)
    assert sync.max_parity_error == pytest.approx(1e-5, rel=0.05)


@pytest.mark.parametrize(
    ("tolerance", "deep"), [(1e-4, 1e-3), (2e-5, 2e-4), (0.0, 0.0), (0.01, 0.01)]
)
async def test_rounding_is_forgiven_at_depth_alone(tolerance: float, deep: float) -> None:
    """Float32 alone is 1.3e-4 nats from float64 after 195 tokens of a prompt that repeats itself:
    a run of chains of 32 operations ended at its tenth sync for that."""
    for place, allowed in ((500, deep), (0, tolerance)):
        for share, refused in ((0.99, False), (1.01, True)):
            off = allowed * share if allowed else 1e-5 * refused
            sync, generators = probing(lambda _, at, p=place, o=off: o * (at > p), 1000)
            generators.config = GeneratorConfig(block_size=32, parity_tolerance=tolerance)
            if refused:
                with pytest.raises(RuntimeError, match="parity_tolerance allows"):
                    await sync._verify()
            else:
                assert await sync._verify() == pytest.approx(off, rel=0.05)


@pytest.mark.parametrize("probe_fails", [False, True])
@pytest.mark.parametrize("says", [float("nan"), float("-inf")])
async def test_a_policy_that_is_ruined_is_nobodys_else_fault(
    says: float, probe_fails: bool
) -> None:
    """Generators were recreated for it until the recoveries were used up."""

    def off(replica: int, place: int) -> float:
        if probe_fails:
            raise RuntimeError("the engine has no token of the greatest probability")
        return float("nan")

    sync, _ = probing(off, 1000)
    sync._learner.says = says  # type: ignore[attr-defined]
    sync._verified = True

    async def verify() -> float:
        return await sync._verify()

    sync._once = verify  # type: ignore[method-assign]
    with pytest.raises(NotFinite, match="own logprobs are not finite at version 0"):
        await sync._until_verified()
