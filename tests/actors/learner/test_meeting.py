"""Where the ranks of a learner meet."""

from __future__ import annotations

import os
from typing import Any

import psutil
import pytest

from rlstep.actors.learner import learner_rank
from rlstep.actors.learner.learner_rank import ModelRank
from rlstep.config import LearnerConfig, ModelConfig


def rank(number: int, of: int) -> ModelRank:
    config = LearnerConfig(model=ModelConfig(path="m"), world_size=of, threads=1)
    place: Any = {"name": "policy", "device": "cpu", "seed": 0, "timeout_s": 60.0}
    return ModelRank(config, rank=number, **place)


@pytest.mark.parametrize(("ranks", "host"), [(1, "127.0.0.1"), (2, "127.0.0.2")])
def test_they_meet_at_one_address_and_not_at_every_one(
    ranks: int, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """127.0.0.2 is as good as an address of the node, of which one that is alone has no need."""
    monkeypatch.setattr(learner_rank, "get_node_ip_address", lambda: "127.0.0.2")
    first = rank(0, ranks)
    found, port = first.address()
    assert found == host
    sockets = psutil.Process(os.getpid()).net_connections("tcp")
    assert [s.laddr.ip for s in sockets if s.laddr.port == port and s.status == "LISTEN"] == [host]
    if ranks > 1:
        other: Any = rank(1, ranks)
        other._store(host, port).set("key", "value")
        assert first._meeting_point.get("key") == b"value"
