"""A weight transfer that fails in its middle: who is named, how soon, and that it can be tried
again, on every learner rank."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import pytest
import ray
import torch
from transformers import AutoModelForCausalLM

from rlstep.actors.weights import weight_source
from rlstep.actors.weights.gloo_group import GlooPlace, broadcast, join
from rlstep.actors.weights.weight_source import LearnerWeights
from tests.actors.learner.learner_kit import pair_samples
from tests.actors.weights import stub_engine
from tests.actors.weights.sync_kit import learner_group, local_learner

pytestmark = pytest.mark.timeout(300)


@contextmanager
def engines(*arguments: tuple[Any, ...]) -> Iterator[list[Any]]:
    made = [stub_engine.start(*each) for each in arguments]
    pids = ray.get([engine.process_id.remote() for engine in made])
    try:
        yield made
    finally:
        for pid, engine in zip(pids, made, strict=True):
            os.kill(pid, signal.SIGCONT)
            ray.kill(engine)


PLACE = ("rlstep_gloo", "float32", 1, 60.0)


@pytest.mark.parametrize(
    ("fails", "after", "told"),
    [
        pytest.param(
            *("refuses", 0, "generator 1: start_weight_update failed"), marks=pytest.mark.slow
        ),
        ("refuses", 3, "generator 1: update_weights failed|a weight did not go through"),
        pytest.param(
            *("idles", 3, "a weight did not go through, and every generator answers"),
            marks=pytest.mark.slow,
        ),
        ("stops", 3, "a weight did not go through, and generator 1 does not answer"),
    ],
)
def test_who_failed_is_named_and_the_next_round_succeeds(
    ray_cluster: None, tiny_model: str, monkeypatch: pytest.MonkeyPatch, fails, after, told
) -> None:
    monkeypatch.setattr("rlstep.actors.weights.sync_client.ANSWER_S", 1.0)
    with engines((), (fails, after)) as made, local_learner(tiny_model) as learner:
        learner.join_generators(made, *PLACE, silence_s=1.0)
        started = time.monotonic()
        with pytest.raises(RuntimeError, match=told):
            learner.publish(1)
        # Far below PLACE's deadline, which is what anybody waited for before.
        assert time.monotonic() - started < 30.0
        good = [made[0]]
        learner.join_generators(good, *PLACE, silence_s=30.0)
        learner.publish(2)
        version, sums = ray.get(made[0].served.remote())
        assert version == "2" and learner._weights is not None
        assert sums == pytest.approx(
            {name: float(value.double().sum()) for name, value in learner._weights}
        )


def test_whoever_comes_late_is_waited_for_longer_than_a_weight() -> None:
    """Engines come when they have started; silence is of those that are there."""
    listen = socket.create_server(("127.0.0.1", 0))
    port = listen.getsockname()[1]
    place = GlooPlace("127.0.0.1", port, 1, 2, deadline_s=60.0, silence_s=0.2)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(join, place, 0, listen)
        assert not wait([first], timeout=1.0).done  # five silences
        groups = [threads.submit(join, place, 1).result(60.0), first.result(60.0)]
        with pytest.raises(RuntimeError, match="Timed out waiting 200ms"):
            broadcast(groups[0], torch.ones(2))  # of which rank 0 sends nothing


@pytest.mark.parametrize("taken", [0, 1, 5, None])
def test_a_rank_that_fails_has_gathered_every_weight_once(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch, taken: int | None
) -> None:
    """As the ranks that do not fail have; None: it fails before it asks for any."""
    weights = LearnerWeights(AutoModelForCausalLM.from_pretrained(tiny_model), torch.float32)
    names = [m.name for m in weights.metadata()]
    gathered: list[str] = []
    whole = weight_source.checkpoint_weights

    def counted(module: Any) -> Iterator[tuple[str, torch.Tensor]]:
        for name, value in whole(module):
            gathered.append(name)
            yield name, value

    monkeypatch.setattr(weight_source, "checkpoint_weights", counted)
    with pytest.raises(ConnectionError), weights.round():
        if taken is not None:
            for index, _ in enumerate(weights):
                if index == taken:
                    break
        raise ConnectionError
    assert gathered == names


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize(("fails", "after"), [("refuses", 0), ("refuses", 3), ("stops", 3)])
async def test_two_ranks_go_on_after_a_sync_that_failed(
    ray_cluster: None, tiny_model: str, stage: int, fails: str, after: int
) -> None:
    """ZeRO-3 gathers for every weight: without the failed rank's part in it the other one would
    stay there until its deadline of 20 minutes."""
    with engines((), (fails, after)) as made:
        async with learner_group(tiny_model, world_size=2, zero_stage=stage) as learner:
            place: dict[str, Any] = {
                "backend": "rlstep_gloo",
                "dtype": "float32",
                "engine_world_size": 1,
            }
            place |= {"deadline_s": 60.0, "silence_s": 3.0}
            await learner.join_generators(made, **place)
            with pytest.raises(Exception, match="generator"):
                await learner.publish(1)
            started = time.monotonic()
            await learner.train(pair_samples())
            await learner.join_generators(made[:1], **place)
            await learner.publish(2)
            assert time.monotonic() - started < 120.0
            version, _ = ray.get(made[0].served.remote())
            assert version == "2"
