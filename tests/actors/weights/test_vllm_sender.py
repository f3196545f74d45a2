"""What vLLM's own transfers are given. That they deliver it is seen on GPUs alone."""

from __future__ import annotations

import importlib.util
import os
import sys
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from rlstep.actors.weights.weight_source import LearnerWeights


@pytest.fixture
def weights(tied_model: str) -> LearnerWeights:
    return LearnerWeights(AutoModelForCausalLM.from_pretrained(tied_model), torch.bfloat16)


def test_every_weight_is_declared_as_it_is_sent(weights: LearnerWeights) -> None:
    from rlstep.actors.weights.vllm_sender import EngineSource

    source = EngineSource(weights)
    declared = [(m.name, m.dtype, m.shape) for m in source.metadata()]
    for _ in range(2):  # a round after the other
        assert [(name, t.dtype, tuple(t.shape)) for name, t in source] == declared
    names = [name for name, _, _ in declared]
    assert sorted(name for group in source.groups() for name in group) == sorted(names)
    assert "lm_head.weight" not in names  # tied: the engine shares it
    assert {dtype for _, dtype, _ in declared} == {torch.bfloat16}


class Source33(ABC):
    """What vLLM 0.33 makes of a source (read in its wheel: `distributed/weight_transfer/base.py`).

    Engines read `metadata` again and again, so it must be a cached property; full tensors come out
    of `iter_full`, in the order of the metadata, exactly what the rank owns.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not isinstance(cls.__dict__.get("metadata"), cached_property):
            raise TypeError(f"{cls.__name__}.metadata must be a functools.cached_property")

    @property
    @abstractmethod
    def metadata(self) -> list[Any]: ...

    def iter_full(self) -> Iterator[tuple[str, torch.Tensor]]:
        raise NotImplementedError


def takes(base: Any, weights: LearnerWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our source, made anew beside this `vllm.distributed.weight_transfer.base` of 0.33, holds to
    its contract."""
    from rlstep.actors.weights import vllm_sender

    monkeypatch.setitem(sys.modules, "vllm.distributed.weight_transfer.base", base)
    module = loaded("vllm_sender_33", Path(vllm_sender.__file__))
    source = module.EngineSource(weights)
    assert source.metadata is source.metadata
    declared = [(m.name, m.dtype, m.shape) for m in source.metadata]
    for _ in range(2):
        assert [(name, t.dtype, tuple(t.shape)) for name, t in source.iter_full()] == declared


def loaded(name: str, file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_source_is_what_the_next_vllm_takes(
    weights: LearnerWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vllm.distributed.weight_transfer.base as base

    next_base = SimpleNamespace(**vars(base))
    next_base.WeightSource = Source33
    takes(next_base, weights, monkeypatch)


@pytest.mark.slow
def test_the_source_is_what_the_next_wheel_takes(
    weights: LearnerWeights, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`pip download --no-deps vllm==0.33.0` gets the wheel, whose text alone is read."""
    if not (wheel := os.environ.get("RLSTEP_VLLM_WHEEL")):
        pytest.skip("RLSTEP_VLLM_WHEEL names no wheel of vLLM 0.33")
    with zipfile.ZipFile(wheel) as archive:
        file = Path(archive.extract("vllm/distributed/weight_transfer/base.py", tmp_path))
    base = loaded("weight_transfer_base_33", file)
    takes(base, weights, monkeypatch)
    source = sys.modules["vllm_sender_33"].EngineSource(weights)
    assert source.implements_iter_full()
    with pytest.raises(TypeError, match="cached_property"):
        type("Method", (base.WeightSource,), {"metadata": lambda self: []})


@pytest.mark.parametrize("backend", ["nccl", "ipc"])
def test_a_transfer_is_opened_as_vllm_names_it(
    weights: LearnerWeights, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    from rlstep.actors.weights import vllm_sender

    opened: dict[str, Any] = {}

    def trainer_init(info: Any, **arguments: Any) -> None:
        opened.update(arguments, info=info)

    monkeypatch.setattr(vllm_sender.WeightTransferTrainerFactory, "trainer_init", trainer_init)
    client: Any = object()
    place = {"rank": 0, "address": "10.0.0.1", "engine_workers": 3}
    vllm_sender.vllm_sender(backend, client, weights, **place)
    assert opened["client"] is client and opened["info"].backend == backend
    assert opened["info"].rank == 0
    if backend == "nccl":
        assert (opened["info"].master_address, opened["info"].world_size) == ("10.0.0.1", 4)
