"""Gradients exchanged over gloo: by hand in one process, in three, and in a learner of four."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

from rlstep.actors.learner import rank_gradients
from rlstep.actors.learner.learner_group import LearnerGroup
from rlstep.actors.learner.rank_gradients import ModuleGradients
from rlstep.aggregation.flag import Flag
from rlstep.aggregation.mean import Mean
from rlstep.config import LearnerConfig, ModelConfig, OptimizerConfig
from rlstep.testing.faults import Noise, OneFaulty, SignFlip, Stale, Zero
from tests.actors.learner.learner_kit import RatioLoss, advantage_samples


class Numbers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.zeros(2, 4))
        self.bias = nn.Parameter(torch.zeros(3))
        self.unused = nn.Parameter(torch.zeros(2))
        self.frozen = nn.Parameter(torch.zeros(2), requires_grad=False)


def filled(rank: int) -> Numbers:
    """Gradients (rank + 1) * [0..7] and [1, 1, rank]; none of `unused`."""
    module = Numbers()
    module.matrix.grad = (rank + 1) * torch.arange(8.0).view(2, 4)
    module.bias.grad = torch.tensor([1.0, 1.0, float(rank)])
    return module


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    store = dist.FileStore(str(tmp_path / "store"), 1)  # pyright: ignore[reportPrivateImportUsage]
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_one_rank_by_hand(alone: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rank_gradients, "_CHUNK", 3)  # chunks of 3, 3 and 2 numbers
    module = filled(0)
    gradients = ModuleGradients(module)
    assert gradients.gram() == pytest.approx(np.array([[142.0]]))  # 0 + 1 + 4 + .. + 49, and 1 + 1
    gradients.scale(0.5)
    assert module.matrix.grad is not None and module.matrix.grad[1, 3] == 3.5
    module.bias.grad = torch.tensor([torch.inf, 0.0, 0.0])
    gradients.scale(0.0)
    assert all(not g.any() for g in gradients.own) and module.frozen.grad is None


def test_faults(alone: None):
    """Of a rank whose gradient is [3, 4, 0] and [-6, 0]."""

    def corrupted(*faults: Any) -> list[torch.Tensor]:
        tensors = [torch.tensor([3.0, 4.0, 0.0]), torch.tensor([-6.0, 0.0])]
        for fault in faults:
            fault.corrupt(tensors)
        return tensors

    assert corrupted(SignFlip(times=2.0))[1].tolist() == [12.0, 0.0]
    assert corrupted(Zero())[0].tolist() == [0.0, 0.0, 0.0]
    noisy = corrupted(Noise(times=10.0))
    assert [t.norm().item() for t in noisy] == pytest.approx([50.0, 60.0])
    stale = Stale()
    corrupted(stale)
    assert corrupted(Zero(), stale)[0].tolist() == [3.0, 4.0, 0.0]
    for rank, wanted in ((0, [-3.0, -4.0]), (1, [3.0, 4.0])):
        module = nn.Linear(2, 1, bias=False)
        module.weight.grad = torch.tensor([[3.0, 4.0]])
        faulty = OneFaulty(aggregator=Mean(), fault=SignFlip(), rank=rank)
        assert faulty.aggregate(ModuleGradients(module)) == {} and faulty.needs_ranks == 2
        assert module.weight.grad.tolist() == [wanted]


def _rank(rank: int, store: str, out: str) -> None:
    shared = dist.FileStore(store, 3)  # pyright: ignore[reportPrivateImportUsage]
    dist.init_process_group("gloo", store=shared, rank=rank, world_size=3)
    rank_gradients._CHUNK = 2  # 8 numbers are chunks of 6 and 2, the second with padding
    np.save(f"{out}/{rank}.npy", ModuleGradients(filled(rank)).gram())
    dist.destroy_process_group()


@pytest.mark.slow
def test_three_ranks_have_the_same_products(tmp_path: Path):
    spawn(_rank, (str(tmp_path / "store"), str(tmp_path)), nprocs=3)
    # (i + 1) (j + 1) * 140 + 1 + 1 + i j
    wanted = [[(i + 1) * (j + 1) * 140 + 2 + i * j for j in range(3)] for i in range(3)]
    for rank in range(3):
        assert np.load(tmp_path / f"{rank}.npy").tolist() == wanted


@pytest.mark.slow
async def test_ranks_stay_alike_and_the_faulty_one_has_its_share_named(
    ray_cluster: None, tiny_model: str
):
    settings = LearnerConfig(
        model=ModelConfig(path=tiny_model),
        threads=1,
        world_size=4,
        token_budget=24,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        aggregation=OneFaulty(aggregator=Flag(), fault=Noise(times=100.0), rank=2),
    )
    group = await LearnerGroup.start(settings, RatioLoss(), name="policy", seed=0, deadline_s=600)
    try:
        told = await group.train(advantage_samples())
        sums = [
            await actor.__ray_call__.remote(
                lambda self: [p.double().sum().item() for p in self.engine.module.parameters()]
            )
            for actor in group.actors
        ]
    finally:
        await group.close()
    assert told["updates"] == 1 and told["rank_2_share"] < 0.05  # a hundred times as long
    assert all(other == sums[0] for other in sums)
