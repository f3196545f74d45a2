"""The files of a learner's checkpoint: what is in them, and what is not read."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlstep.actors.learner.learner_group import LearnerGroup
from rlstep.actors.learner.saved_state import (
    FOLDER,
    MODEL,
    STATE,
    full_weights,
    put,
    rank_file,
    read_state,
)
from rlstep.config import LearnerConfig, ModelConfig, OptimizerConfig
from tests.actors.learner.learner_kit import RatioLoss, advantage_samples, make_model, running

SAMPLES = advantage_samples()
RANK = rank_file(0)


def config(path: str, **changes: Any) -> LearnerConfig:
    model, optimizer = ModelConfig(path=path), OptimizerConfig(learning_rate=1e-2)
    return replace(
        LearnerConfig(model=model, threads=1, token_budget=64, optimizer=optimizer), **changes
    )


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every call that would unpickle something."""
    calls: list[Any] = []
    for module, name in ((pickle, "load"), (pickle, "loads"), (torch, "load")):
        monkeypatch.setattr(module, name, lambda *given, **_: calls.append(given))
    return calls


def plain_pickle(path: Path) -> None:
    """A dict of numbers and nothing else: that it is pickled is enough."""
    path.write_bytes(pickle.dumps({"weights": [1.0, 2.0]}))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeros(path: Path) -> None:
    path.write_bytes(bytes(64))


def lies(path: Path) -> None:
    """The header says that it is longer than the file."""
    path.write_bytes((1 << 62).to_bytes(8, "little") + path.read_bytes()[8:])


def another(path: Path) -> None:
    save_file({"other": torch.zeros(2)}, path)


def transposed(path: Path) -> None:
    save_file({name: value[..., None] for name, value in load_file(path).items()}, path)


def changed(**entries: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return change


NO_FILE = "is no safetensors file that a learner wrote"
DAMAGES = [
    *((name, harm, NO_FILE) for name in (MODEL, RANK) for harm in (plain_pickle, cut, zeros, lies)),
    (MODEL, another, "is only in the "),
    (RANK, another, "random_state is not what this torch keeps"),
    (MODEL, transposed, "size mismatch for "),
    (STATE, plain_pickle, "state.json cannot be read"),
    (STATE, cut, "state.json cannot be read"),
    (STATE, changed(format="rlstep learner 9"), "is of format 'rlstep learner 9', not"),
    (STATE, changed(zero_stage=2), r"zero_stage is 0, and .* was saved with 2"),
    (STATE, changed(pieces=[]), "is of another model"),
]


def test_what_is_no_checkpoint_of_ours_is_refused_and_nothing_is_unpickled(
    tiny_model: str, tmp_path: Path, canary: list[Any]
) -> None:
    good = tmp_path / "good"
    with running(config(tiny_model), RatioLoss()) as worker:
        worker.train(SAMPLES)
        canary.clear()  # what DeepSpeed does while it starts
        worker.save(str(good))
        for name, harm, message in DAMAGES:
            bad = tmp_path / "bad"
            shutil.copytree(good, bad)
            harm(bad / FOLDER / name)
            with pytest.raises(ValueError, match=message):
                worker.restore(str(bad))
            shutil.rmtree(bad)
        assert canary == []
        worker.restore(str(good))
        assert worker.updates == 1


@pytest.mark.parametrize("stage", [0, 2])
def test_another_number_of_ranks(tiny_model: str, tmp_path: Path, stage: Any) -> None:
    """At ZeRO 0 every rank holds all."""
    with running(config(tiny_model, zero_stage=stage), RatioLoss()) as worker:
        worker.train(SAMPLES)
        worker.save(str(tmp_path))
        changed(world_size=4)(tmp_path / FOLDER / STATE)
        if stage == 0:
            worker.restore(str(tmp_path))
            return
        with pytest.raises(ValueError, match=r"world_size is 1, and .* was saved with 4"):
            worker.restore(str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
async def test_two_ranks_go_on_bit_by_bit(
    ray_cluster: None, tiny_model: str, tmp_path: Path, stage: Any
) -> None:
    two = config(tiny_model, world_size=2, zero_stage=stage)
    found = []
    for folder, saved in ((tmp_path / "whole", False), (tmp_path / "again", True)):
        group = await LearnerGroup.start(two, RatioLoss(), name="policy", seed=0, deadline_s=600)
        try:
            if saved:
                await group.restore(str(tmp_path / "state"))
            else:
                await group.train(SAMPLES)
                await group.save(str(tmp_path / "state"))
            told = [await group.train(SAMPLES) for _ in range(2)]
            await group.export(str(folder))
        finally:
            await group.close()
        found.append([{**each, "seconds": 0.0} for each in told])
    assert found[0] == found[1]
    whole, again = (load_file(tmp_path / name / MODEL) for name in ("whole", "again"))
    assert whole.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
    ranks = [tmp_path / "state" / FOLDER / rank_file(rank) for rank in range(2)]
    assert all(path.is_file() for path in ranks)


def test_the_files_hold_numbers_and_names(tiny_model: str, tmp_path: Path) -> None:
    with running(config(tiny_model), RatioLoss()) as worker:
        worker.train(SAMPLES)
        worker.save(str(tmp_path))
        trained = dict(worker.engine.module.named_parameters())
    folder = tmp_path / FOLDER
    assert {path.name for path in folder.iterdir()} == {STATE, MODEL, RANK}
    assert load_file(folder / MODEL).keys() == trained.keys()
    of_each = {f"{name}/{key}" for name in trained for key in ("exp_avg", "exp_avg_sq", "step")}
    assert load_file(folder / RANK).keys() == of_each | {"random_state"}
    assert read_state(folder)["counters"] == {"updates": 1, "batches": 1, "skipped_in_a_row": 0}


def test_a_checkpoint_of_an_earlier_rlstep_is_named(tmp_path: Path, canary: list[Any]) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    plain_pickle(folder / "mp_rank_00_model_states.pt")
    with pytest.raises(ValueError, match=r"as DeepSpeed pickles them \(mp_rank_00_model_states"):
        read_state(folder)
    assert canary == []


def test_another_models_checkpoint_is_refused(tiny_model: str, tmp_path: Path) -> None:
    with running(config(tiny_model), RatioLoss()) as worker:
        worker.save(str(tmp_path / "saved"))
    wide = make_model(tmp_path / "wide", hidden=64)
    with (
        running(config(wide), RatioLoss()) as worker,
        pytest.raises(ValueError, match="of another model: its weights have other names or shapes"),
    ):
        worker.restore(str(tmp_path / "saved"))


def test_parts_of_several_ranks_are_put_together(tmp_path: Path) -> None:
    """Two ranks at ZeRO 3. a has 3 numbers, so 2 a rank and one of padding, b has 2 x 2: rank 0
    holds 1 2 | 4 5, rank 1 3 _ | 6 7. The frozen c has one number, so the other rank has padding.
    """
    rows = {0: ([1.0, 2.0, 4.0, 5.0], [8.0]), 1: ([3.0, torch.nan, 6.0, 7.0], [torch.nan])}
    for rank, (row, frozen) in rows.items():
        tensors = {"0/weights": torch.tensor(row), "c/frozen": torch.tensor(frozen)}
        save_file(tensors, tmp_path / rank_file(rank))
    save_file({"buffer": torch.tensor([9.0])}, tmp_path / MODEL)
    state = {
        "format": "rlstep learner 1",
        "zero_stage": 3,
        "world_size": 2,
        "pieces": [[["a", [3]], ["b", [2, 2]]]],
        "frozen": [["c", []]],
    }
    (tmp_path / STATE).write_text(json.dumps(state))
    found = {name: value.tolist() for name, value in full_weights(tmp_path).items()}
    assert found == {"a": [1, 2, 3], "b": [[4, 5], [6, 7]], "c": 8, "buffer": [9]}


def test_names_and_shapes_have_to_be_the_same() -> None:
    own = {"a": torch.zeros(2), "b": torch.zeros(1)}
    put(own, {"a": torch.ones(2), "b": torch.ones(1)})
    assert own["a"].tolist() == [1, 1]
    with pytest.raises(ValueError, match="b is only in the model"):
        put(own, {"a": torch.ones(2)})
    with pytest.raises(ValueError, match="c is only in the checkpoint"):
        put(own, {"a": torch.ones(2), "b": torch.ones(1), "c": torch.ones(1)})
    with pytest.raises(ValueError, match=r"size mismatch for a: \[3\] was saved, \[2\] is here"):
        put(own, {"a": torch.ones(3), "b": torch.ones(1)})
