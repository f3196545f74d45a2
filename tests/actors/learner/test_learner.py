"""The learner with real DeepSpeed: one rank in this process, or ranks as Ray actors."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlstep.actors.learner.deepspeed_config import learning_rate_factor
from rlstep.actors.learner.learner_group import LearnerGroup
from rlstep.actors.learner.models import (
    check_learner,
    check_model,
    load_model,
)
from rlstep.actors.learner.saved_weights import export_saved
from rlstep.config import LearnerConfig, LoraConfig, ModelConfig, OptimizerConfig
from rlstep.interfaces import Batch, Loss, LossOutput
from rlstep.losses.ppo import Ppo
from rlstep.plugins import PlugInError, naming_plugins
from rlstep.types import AdvantageSamples, Counts, PairSamples, Samples
from tests.actors.learner.learner_kit import (
    LabelLoss,
    MarginLoss,
    RatioLoss,
    advantage_samples,
    label_samples,
    make_model,
    pair_samples,
    running,
    weights,
)

IDS = [s.token_ids for s in advantage_samples().sequences]
CASES = [(RatioLoss(), advantage_samples()), (MarginLoss(), pair_samples())]
NAMES = ["separable", "pairs"]
RATE = 1e-3


def slowly(*values: Any) -> Any:
    """Parameters of which `make test-slow` takes its time."""
    return pytest.param(*values, marks=pytest.mark.slow)


def config(path: str, **changes: Any) -> LearnerConfig:
    values: dict[str, Any] = {
        "model": ModelConfig(path=path),
        "threads": 1,
        "token_budget": 64,
        "optimizer": OptimizerConfig(learning_rate=RATE),
    }
    return LearnerConfig(**(values | changes))


def after(config: LearnerConfig, loss: Loss, samples: Samples, passes: int = 1) -> Any:
    """Metrics of each pass, the weights and the predictions after all of them."""
    with running(config, loss) as worker:
        metrics = [worker.train(samples) for _ in range(passes)]
        return metrics, weights(worker), rows(worker.predict(IDS))


def rows(by_position: dict[int, Any]) -> list[Any]:
    return [by_position[i] for i in range(len(by_position))]


def same(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.allclose(value, b[name], rtol=0, atol=tolerance), name


def close(a: Sequence[Any], b: Sequence[Any], tolerance: float) -> None:
    assert max(np.abs(x - y).max() for x, y in zip(a, b, strict=True)) <= tolerance


# --- what the laws ask ----------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "samples"), CASES, ids=NAMES)
def test_update_does_not_depend_on_micro_batches_packing_or_zero(tiny_model, loss, samples):
    # Updates of plain size: clipping at 1 would hide a wrong scale, Adam's own would as well, so
    # the gradient norm is compared too.
    optimizer = OptimizerConfig(learning_rate=RATE, gradient_clip=0.0)
    whole, expected, _ = after(
        config(tiny_model, token_budget=10_000, packing=False, optimizer=optimizer), loss, samples
    )
    assert whole[0]["updates"] == 1 and whole[0]["grad_norm"] > 0.1
    for budget, packing, stage in [
        *[(10_000, True, 0), (1, False, 0), (40, True, 0), (40, False, 0)],
        *[(40, True, 1), (1, True, 2), (40, True, 3)],
    ]:
        layout = {"token_budget": budget, "packing": packing, "zero_stage": stage}
        again, got, _ = after(config(tiny_model, optimizer=optimizer, **layout), loss, samples)
        if budget == 10_000:
            assert again[0]["padded_tokens"] < whole[0]["padded_tokens"]
        assert again[0]["loss"] == pytest.approx(whole[0]["loss"], abs=1e-5)
        assert again[0]["grad_norm"] == pytest.approx(whole[0]["grad_norm"], rel=1e-4)
        same(expected, got, 0.05 * RATE)


def nothing(samples: Samples) -> Samples:
    empty = {"pairs": ()} if isinstance(samples, PairSamples) else {"advantages": ()}
    return replace(samples, sequences=(), **empty)


async def two_passes(group: LearnerGroup, loss: Loss, samples: Samples) -> Any:
    """Two passes over the samples, and between them one over no samples."""
    await asyncio.gather(
        *(
            actor.__ray_call__.remote(lambda self: setattr(self, "loss", loss))
            for actor in group.actors
        )
    )
    first = await group.train(samples)
    assert (await group.train(nothing(samples)))["updates"] == 0
    return [first, await group.train(samples)], await group.predict(IDS)


@pytest.mark.parametrize("stage", [pytest.param(0, marks=pytest.mark.slow), 3])
async def test_two_ranks_are_one(ray_cluster, tiny_model, tmp_path, stage):
    # 64 tokens a micro-batch and 2 prompts a mini-batch: one rank's last micro-batch is empty.
    one = config(tiny_model, mini_batches=2, token_budget=64)
    two = replace(one, world_size=2, zero_stage=stage)
    start, end = str(tmp_path / "start"), str(tmp_path / "end")
    group = await LearnerGroup.start(two, RatioLoss(), name="policy", seed=0, deadline_s=1200)
    try:
        await group.save(start)
        for loss, samples in CASES:
            expected, _, predictions = after(one, loss, samples, passes=2)
            await group.restore(start)
            metrics, got = await two_passes(group, loss, samples)
            close(got, predictions, 2e-3)
            for mine, theirs in zip(expected, metrics, strict=True):
                for name in mine.keys() - {"seconds", "padded_tokens"}:
                    assert theirs[name] == pytest.approx(mine[name], rel=2e-3, abs=1e-5), name
        # The other rank has no micro-batch.
        close(await group.predict(IDS[:1]), got[:1], 1e-5)
        await group.export(end)
        _, _, exported = after(config(end), *CASES[0], passes=0)
        close(exported, got, 1e-5)
    finally:
        await group.close()


def test_no_samples_make_no_update(tiny_model):
    empty = AdvantageSamples(sequences=(), advantages=(), groups=0)
    with running(config(tiny_model), RatioLoss()) as worker:
        before = weights(worker)
        assert worker.train(empty)["updates"] == 0
        same(before, weights(worker), 0.0)


def test_one_thread_is_reproducible_bit_by_bit(tiny_model):
    first = after(config(tiny_model), MarginLoss(), pair_samples(), passes=2)
    second = after(config(tiny_model), MarginLoss(), pair_samples(), passes=2)
    same(first[1], second[1], 0.0)


def test_gradient_checkpointing_changes_nothing(tiny_model):
    plain = after(config(tiny_model), *CASES[0])
    saving = ModelConfig(path=tiny_model, gradient_checkpointing=True)
    for stage in (0, 3):
        saved = after(config(tiny_model, model=saving, zero_stage=stage), *CASES[0])
        assert saved[0][0]["loss"] == pytest.approx(plain[0][0]["loss"], abs=1e-6)
        same(plain[1], saved[1], 0.05 * RATE)


# --- predictions ----------------------------------------------------------------------------------


def test_predictions_are_the_models_logprobs(tiny_model):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    with running(config(tiny_model), RatioLoss()) as worker:
        got = rows(worker.predict(IDS))
    for ids, row in zip(IDS, got, strict=True):
        assert row.dtype == np.float32 and row.shape == ids.shape and row[0] == 0.0
        with torch.no_grad():
            logits = model(torch.tensor(ids[None].astype(np.int64))).logits[0]
        expected = logits.log_softmax(-1)[np.arange(len(ids) - 1), ids[1:]]
        assert np.abs(row[1:] - expected.numpy()).max() < 1e-5


def test_scalar_head_starts_at_zero_and_learns(tiny_model, tmp_path):
    settings = config(
        tiny_model,
        head="token_classification",
        reference="none",
        optimizer=OptimizerConfig(learning_rate=1e-2),
    )
    with running(settings, LabelLoss()) as worker:
        assert all((row == 0.0).all() for row in rows(worker.predict(IDS)))
        losses = [worker.train(label_samples())["loss"] for _ in range(8)]
        trained = rows(worker.predict(IDS))
        worker.export(str(tmp_path / "prm"))
    assert losses[0] == pytest.approx(math.log(2.0), abs=1e-6)  # sigmoid(0) = 1/2 everywhere
    assert losses[-1] < 0.5 * losses[0]
    # A trained head is loaded, not set to zero again.
    with running(config(str(tmp_path / "prm"), head="token_classification"), LabelLoss()) as worker:
        close(rows(worker.predict(IDS)), trained, 1e-6)


# --- the reference --------------------------------------------------------------------------------


def of_reference(path: str, reference: str, lora: int, stage: int) -> LearnerConfig:
    return config(
        path,
        model=ModelConfig(path=path, lora=LoraConfig(rank=lora)),
        zero_stage=stage,
        optimizer=OptimizerConfig(learning_rate=1e-2),
        reference=reference,
    )


@pytest.mark.parametrize(("stage", "lora"), [(0, 0), slowly(0, 4), slowly(3, 0), slowly(3, 4)])
def test_the_iterations_reference_is_the_policy_before_its_one_update(tiny_model, lora, stage):
    with running(of_reference(tiny_model, "iteration", lora, stage), RatioLoss()) as worker:
        assert [worker.train(advantage_samples())["drift"] for _ in range(2)] == [0.0, 0.0]


@pytest.mark.parametrize(("stage", "lora"), [(0, 0), slowly(0, 4), slowly(3, 0), (3, 4)])
def test_the_initial_reference_stays(tiny_model, lora, stage):
    with running(of_reference(tiny_model, "initial", lora, stage), RatioLoss()) as worker:
        first, second = (worker.train(advantage_samples())["drift"] for _ in range(2))
        assert first == pytest.approx(0.0, abs=1e-9) and second > 1e-4


@pytest.mark.parametrize(("stage", "lora"), [(0, 0), slowly(0, 4), slowly(3, 0), slowly(3, 4)])
def test_a_margin_is_over_the_initial_reference(tiny_model, lora, stage):
    with running(of_reference(tiny_model, "initial", lora, stage), MarginLoss()) as worker:
        first, second = (worker.train(pair_samples())["loss"] for _ in range(2))
        assert first == pytest.approx(math.log(2.0), abs=1e-5) and second < 0.98 * math.log(2.0)


def test_a_loss_that_reads_a_reference_needs_one(tiny_model):
    with pytest.raises(ValueError, match=r"learner\.reference is 'none'.*'iteration'"):
        check_learner(config(tiny_model, reference="none"), MarginLoss())


def test_later_updates_see_the_policy_as_it_is_now(tiny_model):
    # The first update's loss is ln 2 (policy = reference); the second epoch's is lower, since the
    # reference is from before the first update.
    twice = config(tiny_model, epochs=2, optimizer=OptimizerConfig(learning_rate=1e-2))
    with running(twice, MarginLoss()) as worker:
        metrics = worker.train(pair_samples())
        assert metrics["updates"] == 2 and metrics["loss"] < 0.95 * math.log(2.0)
    with running(twice, RatioLoss()) as worker:
        assert worker.train(advantage_samples())["drift"] > 1e-3


# --- entropies -----------------------------------------------------------------------------------


def test_entropy_bonus_equals_plain_torch_and_trains(tiny_model):
    from transformers import AutoModelForCausalLM

    samples, bonus = advantage_samples(), 0.3
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    objective, entropy = torch.zeros(()), torch.zeros(())
    for s, advantages in zip(samples.sequences, samples.advantages, strict=True):
        ids, trained = torch.tensor(s.token_ids).long(), torch.tensor(s.loss_mask[1:])
        every = model(ids[None]).logits[0, :-1].log_softmax(-1)
        logprobs = every.gather(-1, ids[1:, None])[:, 0]
        entropies = -(every.exp() * every).sum(-1)
        gains = (logprobs - logprobs.detach()).exp() * torch.tensor(advantages[1:])
        objective = objective - (gains + bonus * entropies)[trained].sum()
        entropy = entropy + entropies[trained].sum().detach()
    tokens = sum(int(s.loss_mask.sum()) for s in samples.sequences)
    (objective / tokens).backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()

    plain = OptimizerConfig(learning_rate=RATE, gradient_clip=0.0)
    settings = config(tiny_model, token_budget=40, optimizer=plain)
    (metrics,), _, _ = after(settings, Ppo(entropy=bonus), samples)
    assert metrics["loss"] == pytest.approx(objective.item() / tokens, abs=1e-5)
    assert metrics["entropy"] == pytest.approx(entropy.item() / tokens, abs=1e-5)
    assert metrics["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)
    # Two updates a pass: old_logprobs come from a forward of their own.
    several = replace(settings, mini_batches=2, token_budget=64)
    passes, _, _ = after(several, Ppo(entropy=10.0), samples, passes=6)
    assert passes[-1]["entropy"] > passes[0]["entropy"] + 0.05


def test_entropies_need_a_language_model(tiny_model):
    with pytest.raises(ValueError, match=r"Ppo reads entropies: .*'language_model'"):
        check_learner(config(tiny_model, head="token_classification"), Ppo(entropy=0.1))


# --- what is not finite ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("poison", "stage"),
    [("loss", 0), ("gradient", 0), ("gradient", 3), slowly("loss", 3)]
    + [slowly(poison, stage) for poison in ("loss", "gradient") for stage in (1, 2)],
)
def test_no_step_from_what_is_not_finite(tiny_model, poison, stage):
    settings = config(tiny_model, zero_stage=stage, skipped_updates_limit=3)
    with running(settings, RatioLoss(poison=poison)) as worker:
        before, healthy = weights(worker), RatioLoss()
        for _ in range(2):
            metrics = worker.train(advantage_samples())
            assert metrics["skipped_updates"] == 1 and metrics["updates"] == 0
        same(before, weights(worker), 0.0)
        worker.loss = healthy  # a good batch ends the row, and nothing is left of the bad ones
        got = worker.train(advantage_samples())
        assert got["updates"] == 1
        clean = weights(worker)
        worker.loss = RatioLoss(poison=poison)
        worker.train(advantage_samples())
        worker.train(advantage_samples())
        with pytest.raises(RuntimeError, match=r"learner 'test': 3 updates in a row"):
            worker.train(advantage_samples())
    expected, trained, _ = after(
        config(tiny_model, zero_stage=stage), RatioLoss(), advantage_samples()
    )
    assert got["grad_norm"] == pytest.approx(expected[0]["grad_norm"], rel=1e-5)
    same(trained, clean, 0.0)


@pytest.mark.parametrize("stage", [0, 3])
def test_no_step_from_an_infinite_pair_loss(tiny_model, stage):
    settings = config(tiny_model, zero_stage=stage)
    with running(settings, MarginLoss(poison=math.inf)) as worker:
        before = weights(worker)
        assert worker.train(pair_samples())["skipped_updates"] == 1
        same(before, weights(worker), 0.0)


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stage", "lora"), [(0, 0), slowly(2, 0), (3, 0), (0, 4)])
def test_save_and_restore_go_on_bit_by_bit(tiny_model, tmp_path, stage, lora):
    settings = config(
        tiny_model,
        model=ModelConfig(path=tiny_model, lora=LoraConfig(rank=lora)),
        zero_stage=stage,
        optimizer=OptimizerConfig(learning_rate=RATE, warmup_updates=6, weight_decay=0.1),
    )
    samples = pair_samples()
    with running(settings, MarginLoss()) as worker:
        worker.train(samples)
        worker.save(str(tmp_path))
        expected = [worker.train(samples) for _ in range(2)]
        end = weights(worker)
    with running(settings, MarginLoss(), seed=1) as worker:
        worker.restore(str(tmp_path))
        assert worker.updates == 1
        got = [worker.train(samples) for _ in range(2)]
        same(end, weights(worker), 0.0)
    for a, b in zip(expected, got, strict=True):
        assert a | {"seconds": 0} == b | {"seconds": 0}


def test_restore_names_what_is_missing(tiny_model, tmp_path):
    refused = pytest.raises(FileNotFoundError, match="no checkpoint in")
    with running(config(tiny_model), RatioLoss()) as worker, refused:
        worker.restore(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("stage", "lora", "tied"),
    [
        (0, 0, True),
        (3, 4, True),
        (0, 0, False),
        slowly(3, 0, False),
        slowly(0, 4, False),
        slowly(0, 4, True),
        slowly(3, 0, True),
        slowly(3, 4, False),
    ],
)
def test_export_loads_with_the_same_logprobs(request, tmp_path, stage, lora, tied):
    path = request.getfixturevalue("tied_model" if tied else "tiny_model")
    settings = config(
        path,
        model=ModelConfig(path=path, lora=LoraConfig(rank=lora)),
        zero_stage=stage,
        optimizer=OptimizerConfig(learning_rate=1e-2),
    )
    _, _, before = after(config(path), RatioLoss(), advantage_samples(), passes=0)
    with running(settings, RatioLoss()) as worker:
        worker.train(advantage_samples())
        trained = rows(worker.predict(IDS))
        worker.export(str(tmp_path))
        close(rows(worker.predict(IDS)), trained, 0.0)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        p.name for p in tmp_path.iterdir()
    }
    _, _, loaded = after(config(str(tmp_path)), RatioLoss(), advantage_samples(), passes=0)
    close(loaded, trained, 1e-5)
    assert max(np.abs(a - b).max() for a, b in zip(before, trained, strict=True)) > 0.01


@pytest.mark.parametrize(
    ("stage", "lora", "dtype"),
    [
        (0, 0, "float32"),
        (2, 0, "bfloat16"),
        (3, 0, "float32"),
        slowly(3, 0, "bfloat16"),
        (0, 4, "float32"),
        slowly(3, 4, "float32"),
    ],
)
@pytest.mark.parametrize("tied", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_checkpoint_is_exported_without_its_learner(request, tmp_path, stage, lora, dtype, tied):
    """Bit by bit what the learner itself exports."""
    from safetensors.torch import load_file

    path = request.getfixturevalue("tied_model" if tied else "tiny_model")
    settings = config(
        path,
        model=ModelConfig(path=path, dtype=dtype, lora=LoraConfig(rank=lora)),
        zero_stage=stage,
        optimizer=OptimizerConfig(learning_rate=1e-2),
    )
    saved, own, later = (tmp_path / name for name in ("saved", "own", "later"))
    with running(settings, RatioLoss()) as worker:
        worker.train(advantage_samples())
        worker.save(str(saved))
        worker.export(str(own))
    export_saved(settings, saved, later)
    expected = load_file(own / "model.safetensors")
    exported = load_file(later / "model.safetensors")
    assert expected.keys() == exported.keys()
    for name, weight in expected.items():
        assert weight.dtype == exported[name].dtype and torch.equal(weight, exported[name]), name
    assert {p.name for p in own.iterdir()} == {p.name for p in later.iterdir()}


def test_a_checkpoint_of_another_model_is_refused(tiny_model, tmp_path):
    with running(config(tiny_model), RatioLoss()) as worker:
        worker.save(str(tmp_path / "saved"))
    other = make_model(tmp_path / "other", hidden=64)
    with pytest.raises(ValueError, match=r"not the model that .* was trained from: size mism"):
        export_saved(config(other), tmp_path / "saved", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_lora_trains_only_the_adapters(tiny_model):
    settings = config(
        tiny_model,
        model=ModelConfig(path=tiny_model, lora=LoraConfig(rank=4)),
        reference="initial",
        optimizer=OptimizerConfig(learning_rate=1e-2),
    )
    with running(settings, MarginLoss()) as worker:
        parameters = dict(worker.engine.module.named_parameters())
        before = {name: p.detach().clone() for name, p in parameters.items()}
        losses = [worker.train(pair_samples())["loss"] for _ in range(4)]
        changed = {name for name, p in parameters.items() if not torch.equal(p, before[name])}
    assert changed == {name for name in parameters if "lora_" in name}
    assert losses[3] < 0.9 * losses[0]


# --- numbers and schedules ------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [slowly(0), 3])
def test_bfloat16_trains(tiny_model, stage):
    model = ModelConfig(path=tiny_model, dtype="bfloat16")
    settings = config(
        tiny_model,
        model=model,
        zero_stage=stage,
        reference="initial",
        optimizer=OptimizerConfig(learning_rate=1e-2),
    )
    with running(settings, MarginLoss()) as worker:
        losses = [worker.train(pair_samples())["loss"] for _ in range(4)]
        assert next(worker.engine.module.parameters()).dtype == torch.bfloat16
    assert losses[0] == pytest.approx(math.log(2.0), abs=0.02) and losses[-1] < 0.5


@pytest.mark.parametrize("stage", [slowly(1), slowly(2), 3])
def test_offloaded_optimizer_takes_the_same_step(tiny_model, stage):
    plain = after(config(tiny_model, zero_stage=stage), *CASES[0])
    moved = after(config(tiny_model, zero_stage=stage, offload_optimizer=True), *CASES[0])
    same(plain[1], moved[1], 0.05 * RATE)


def test_offload_needs_zero():
    with pytest.raises(ValueError, match=r"zero_stage .*smallest valid value is 1"):
        LearnerConfig(model=ModelConfig(path="m"), offload_optimizer=True)


def test_schedule_values():
    constant = OptimizerConfig(warmup_updates=4)
    assert [learning_rate_factor(constant, u) for u in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    linear = OptimizerConfig(warmup_updates=2, schedule="linear", total_updates=6)
    # Warm-up 1/2, 2/2, then (6 - u) / 4 for u = 2 .. 6, and 0 after.
    assert [learning_rate_factor(linear, u) for u in range(8)] == [0.5, 1, 1, 0.75, 0.5, 0.25, 0, 0]
    cosine = OptimizerConfig(schedule="cosine", total_updates=4)
    # (1 + cos(pi u / 4)) / 2
    expected = [1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0.0]
    assert [learning_rate_factor(cosine, u) for u in range(5)] == pytest.approx(expected)


@pytest.mark.parametrize("stage", [0, slowly(2), slowly(3)])
def test_a_resumed_optimizer_has_the_settings_of_today(tiny_model, tmp_path, stage):
    """Its moments and its number of updates are the saved ones."""
    before = OptimizerConfig(learning_rate=1e-3, warmup_updates=4)
    with running(config(tiny_model, zero_stage=stage, optimizer=before), RatioLoss()) as worker:
        worker.train(advantage_samples())
        worker.save(str(tmp_path))
    now = OptimizerConfig(
        learning_rate=5e-4, warmup_updates=8, betas=(0.5, 0.75), weight_decay=0.25
    )
    with running(config(tiny_model, zero_stage=stage, optimizer=now), RatioLoss()) as worker:
        worker.restore(str(tmp_path))
        groups = worker.engine.optimizer.param_groups
        assert [group["betas"] for group in groups] == [(0.5, 0.75)] * 2
        assert [group["weight_decay"] for group in groups] == [0.25, 0.0]
        # The second and the third of 8 updates of warm-up.
        rates = [worker.train(advantage_samples())["learning_rate"] for _ in range(2)]
        assert worker.updates == 3
    assert rates == pytest.approx([5e-4 * 2 / 8, 5e-4 * 3 / 8])


def test_schedule_is_counted_in_updates(tiny_model):
    optimizer = OptimizerConfig(learning_rate=RATE, warmup_updates=4)
    with running(config(tiny_model, optimizer=optimizer), RatioLoss()) as worker:
        rates = [worker.train(advantage_samples())["learning_rate"] for _ in range(3)]
        worker.loss = RatioLoss(poison="loss")
        worker.train(advantage_samples())  # skipped: not an update
        worker.loss = RatioLoss()
        rates += [worker.train(advantage_samples())["learning_rate"] for _ in range(2)]
    assert rates == pytest.approx([RATE / 4, RATE / 2, RATE * 3 / 4, RATE, RATE])


def test_clipping_bounds_the_gradient(tiny_model):
    # Adam hides a gradient's scale, so the gradient that it is given is looked at.
    seen = []
    optimizer = OptimizerConfig(learning_rate=RATE, gradient_clip=0.01)
    with running(config(tiny_model, optimizer=optimizer), RatioLoss()) as worker:
        groups = worker.engine.optimizer.param_groups
        worker.engine.optimizer.register_step_post_hook(
            lambda *_: seen.append(
                torch.nn.utils.get_total_norm([p.grad for g in groups for p in g["params"]]).item()
            )
        )
        assert worker.train(advantage_samples())["grad_norm"] > 0.1  # before clipping
    assert set(np.round(seen, 6)) == {0.01}


# --- bad input ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Raises(RatioLoss):
    def __call__(self, predictions: Tensor, batch: Batch, counts: Counts) -> LossOutput:
        raise KeyError("margin")  # the line that is named


async def test_a_loss_that_raises_in_a_learner_names_its_file_and_line(ray_cluster, tiny_model):
    """Through Ray to the driver, as one line: not the learner's traceback."""
    one = config(tiny_model)
    group = await LearnerGroup.start(one, Raises(), name="policy", seed=0, deadline_s=1200)
    try:
        with pytest.raises(PlugInError) as raised, naming_plugins():
            await group.train(advantage_samples())
    finally:
        await group.close()
    line = Raises.__call__.__code__.co_firstlineno + 1
    place = f"{__file__}, line {line}, in __call__"
    assert str(raised.value) == f"Raises ended the run: KeyError: 'margin' ({place})"


async def test_a_missing_folder_is_refused_before_any_actor_starts(tiny_model):
    near = str(Path(tiny_model).with_name("tiny9"))
    with pytest.raises(ValueError, match=r"model\.path .*tiny9.*did you mean '.*tiny0'"):
        await LearnerGroup.start(config(near), RatioLoss(), name="policy", seed=0, deadline_s=5)


def test_a_tokenizer_without_pad_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no pad_token; set"):
        check_model(make_model(tmp_path, pad=None))


def test_a_folder_without_all_weights_is_refused(tiny_model, tmp_path):
    from safetensors.torch import load_file, save_file

    for file in Path(tiny_model).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    kept = load_file(Path(tiny_model) / "model.safetensors")
    del kept["model.norm.weight"]
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights of the model: \['model.norm.weight'\]"):
        load_model(config(str(tmp_path)), seed=0)


# --- the group ------------------------------------------------------------------------------------


async def test_waits_have_deadlines_and_errors_name_the_rank():
    class Verb:
        def __init__(self, outcome: Any) -> None:
            self.outcome = outcome

        async def remote(self, *_: Any) -> Any:
            if isinstance(self.outcome, Exception):
                raise self.outcome
            return await asyncio.Event().wait() if self.outcome is None else self.outcome

    class Actor:
        def __init__(self, outcome: Any) -> None:
            self.save = Verb(outcome)

    late = LearnerGroup("policy", [Actor("done"), Actor(None)], 0.05)
    with pytest.raises(TimeoutError, match=r"learner 'policy' rank 1: save did not finish within"):
        await late.save("somewhere")
    # The error of one rank does not wait for the others, which it leaves in a collective.
    broken = LearnerGroup("policy", [Actor(None), Actor(OSError("disk full"))], 60.0)
    with pytest.raises(OSError, match="disk full") as caught:
        await broken.save("somewhere")
    assert caught.value.__notes__ == ["learner 'policy' rank 1: save"]
