"""Divergences from a teacher inside the learner: the dense formula's, however it is cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlstep.actors.learner.learner_group import LearnerGroup
from rlstep.actors.learner.models import check_learner
from rlstep.config import LearnerConfig, LoraConfig, ModelConfig, OptimizerConfig
from rlstep.interfaces import Loss
from rlstep.losses.distillation import Distillation
from rlstep.losses.divergence import Divergence, ForwardKl, JensenShannon, ReverseKl
from rlstep.losses.ppo import Ppo
from rlstep.plugins import PlugInError
from rlstep.types import LabelSamples
from tests.actors.learner.learner_kit import (
    VOCABULARY,
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
from tests.losses.test_divergence import bucketed, dense

RATE = 1e-3
PLAIN = OptimizerConfig(learning_rate=RATE, gradient_clip=0.0)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A larger model with the same words and more of its own."""
    return make_model(tmp_path_factory.mktemp("teacher"), hidden=64, vocabulary=VOCABULARY + 8)


def config(path: str, teacher: str = "", **changes: Any) -> LearnerConfig:
    reference: dict[str, Any] = {"reference": "initial"}
    if teacher:
        reference = {"reference": "model", "reference_model": ModelConfig(path=teacher)}
    values: dict[str, Any] = {"model": ModelConfig(path=path), "threads": 1, "optimizer": PLAIN}
    values |= {"token_budget": 64, **reference, **changes}
    return LearnerConfig(**values)


def load(path: str) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path).eval()


def by_plain_torch(
    student: Any, teacher: Any, samples: LabelSamples, divergence: Divergence, temperature: float
) -> Tensor:
    """The mean over trained tokens, of whole distributions that are all there at once."""
    total = torch.zeros(())
    for s in samples.sequences:
        ids, trained = torch.tensor(s.token_ids).long()[None], torch.tensor(s.loss_mask[1:])
        with torch.no_grad():
            theirs = teacher(ids).logits[0, :-1, :VOCABULARY]
        p, q = (
            (logits / temperature).softmax(-1)[trained]
            for logits in (student(ids).logits[0, :-1], theirs)
        )
        total = total + dense(divergence, *bucketed(p, q, divergence.top_k)).sum()
    return total / sum(int(s.loss_mask.sum()) for s in samples.sequences)


@pytest.mark.parametrize(
    "divergence", [ReverseKl(), ForwardKl(top_k=3), JensenShannon(beta=0.3)], ids=repr
)
def test_the_update_is_that_of_plain_torch(tiny_model: str, teacher: str, divergence: Divergence):
    samples, student = label_samples(), load(tiny_model)
    expected = by_plain_torch(student, load(teacher), samples, divergence, 1.0)
    expected.backward()
    norm = torch.stack([p.grad.norm() for p in student.parameters() if p.grad is not None]).norm()
    with running(config(tiny_model, teacher), Distillation(divergence=divergence)) as worker:
        metrics = worker.train(samples)
    assert metrics["divergence"] == metrics["loss"] == pytest.approx(expected.item(), abs=1e-5)
    assert metrics["grad_norm"] == pytest.approx(norm.item(), rel=1e-4) and norm > 0.1


def test_the_temperature_of_training_divides_both(tiny_model: str, teacher: str):
    expected = by_plain_torch(
        load(tiny_model), load(teacher), label_samples(), ReverseKl(), temperature=1.7
    )
    with running(config(tiny_model, teacher), Distillation()) as worker:
        worker.temperature = 1.7
        metrics = worker.train(label_samples())
    assert metrics["divergence"] == pytest.approx(expected.item(), abs=1e-5)


def test_nothing_depends_on_micro_batches_packing_or_zero(tiny_model: str, teacher: str):
    def after(**layout: Any) -> tuple[dict[str, float], dict[str, Tensor]]:
        with running(config(tiny_model, teacher, **layout), loss) as worker:
            return worker.train(advantage_samples()), weights(worker)

    loss = Ppo(distillation=0.5, entropy=0.1, divergence=ForwardKl(top_k=5))
    whole, expected = after(token_budget=10_000, packing=False)
    assert whole["divergence"] > 0.1
    for budget, packing, stage in [(1, False, 0), (40, True, 0), (40, True, 3)]:
        again, got = after(token_budget=budget, packing=packing, zero_stage=stage)
        for name in ("loss", "divergence", "entropy"):
            assert again[name] == pytest.approx(whole[name], abs=1e-5), name
        assert again["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-4)
        for name, value in expected.items():
            assert torch.allclose(value, got[name], rtol=0, atol=0.05 * RATE), name


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 3])
async def test_two_ranks_are_one(ray_cluster, tiny_model: str, teacher: str, stage: int):
    """Of two micro-batches a rank, and of none: all ranks ask the teacher alike."""
    loss, samples = Distillation(divergence=ReverseKl(top_k=5)), label_samples()
    few = replace(
        samples,
        **{name: getattr(samples, name)[:1] for name in ("sequences", "targets", "weights")},
    )
    with running(config(tiny_model, teacher), loss) as worker:
        expected = [worker.train(each) for each in (samples, few)]
    settings = config(tiny_model, teacher, world_size=2, zero_stage=stage)
    group = await LearnerGroup.start(settings, loss, name="policy", seed=0, deadline_s=1200)
    try:
        found = [await group.train(each) for each in (samples, few)]
    finally:
        await group.close()
    for mine, theirs in zip(expected, found, strict=True):
        for name in ("divergence", "nll", "grad_norm"):
            assert theirs[name] == pytest.approx(mine[name], rel=2e-3, abs=1e-5), name


def test_a_student_comes_near_its_teacher(tiny_model: str, teacher: str):
    settings = config(tiny_model, teacher, optimizer=OptimizerConfig(learning_rate=1e-2))
    with running(settings, Distillation()) as worker:
        found = [worker.train(label_samples())["divergence"] for _ in range(12)]
        kept = worker.frozen
        assert kept is not None and not any(p.requires_grad for p in kept.parameters())
    assert found[-1] < 0.5 * found[0]


@pytest.mark.parametrize("lora", [0, 4])
def test_from_its_own_start_it_begins_at_0(tiny_model: str, lora: int):
    model = ModelConfig(path=tiny_model, lora=LoraConfig(rank=lora))
    settings = config(tiny_model, model=model, optimizer=OptimizerConfig(learning_rate=1e-2))
    with running(settings, Ppo(distillation=0.1)) as worker:
        first, second = (worker.train(advantage_samples())["divergence"] for _ in range(2))
        assert (worker.frozen is None) == bool(lora)
    assert first == pytest.approx(0.0, abs=1e-6) and second > 1e-4


@pytest.mark.parametrize("lora", [0, 4])
def test_another_model_gives_the_reference_logprobs(tiny_model: str, teacher: str, lora: int):
    """Also of a learner with adapters, which has none of its own to switch off for it."""
    expected, tokens = 0.0, 0
    student, other = load(tiny_model), load(teacher)
    for s in advantage_samples().sequences:
        ids = torch.tensor(s.token_ids).long()[None]
        with torch.no_grad():
            ours, theirs = (
                m(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0].numpy()
                for m in (student, other)
            )
        expected += float(np.square(ours - theirs)[s.loss_mask[1:]].sum())
        tokens += int(s.loss_mask.sum())
    model = ModelConfig(path=tiny_model, lora=LoraConfig(rank=lora))
    with running(config(tiny_model, teacher, model=model), RatioLoss()) as worker:
        drift = worker.train(advantage_samples())["drift"]
    assert drift == pytest.approx(expected / tokens, rel=1e-4)
    with running(config(tiny_model, teacher, model=model), MarginLoss()) as worker:
        assert worker.train(pair_samples())["updates"] == 1


# --- what is refused -----------------------------------------------------------------------------


class Undefined(Distillation):
    divergences = Loss.divergences


def test_a_loss_that_defines_no_divergence_says_so(tiny_model: str):
    with (
        running(config(tiny_model), Undefined()) as worker,
        pytest.raises(PlugInError, match=r"Undefined ended the run: .* and defines none"),
    ):
        worker.train(label_samples())


def test_divergences_need_a_reference_that_stays(tiny_model: str):
    for reference in ("iteration", "none"):
        with pytest.raises(
            ValueError, match=rf"reference is '{reference}', but Distillation reads"
        ):
            check_learner(config(tiny_model, reference=reference), Distillation())
    check_learner(config(tiny_model), Distillation())


def test_divergences_need_a_language_model(tiny_model: str):
    with pytest.raises(ValueError, match=r"Distillation reads divergences: .*'language_model'"):
        check_learner(config(tiny_model, head="token_classification"), Distillation())
    with pytest.raises(ValueError, match=r"Ppo reads entropies and divergences: .*separable"):
        check_learner(config(tiny_model, head="two_label"), Ppo(entropy=0.1, distillation=0.1))


def test_a_teacher_with_other_tokens_is_refused_by_name(tiny_model: str, tmp_path: Path):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    path = make_model(tmp_path, hidden=64)
    words = {"<pad>": 0, "<|endoftext|>": 1, **{f"w{i}": i for i in range(2, VOCABULARY)}}
    words["w7"], words["w8"] = 8, 7
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<pad>")),
        pad_token="<pad>",
        eos_token="<|endoftext|>",
    ).save_pretrained(path)
    with pytest.raises(ValueError) as caught:
        check_learner(config(tiny_model, path), Distillation())
    assert str(caught.value).startswith(
        f"learner.reference_model.path is {path!r}, whose tokenizer"
    )
    assert "'w7' is 7 in the policy's and 8 in it" in str(caught.value)


def test_a_teacher_that_lacks_a_token_is_refused_by_name(tiny_model: str, teacher: str):
    check_learner(config(tiny_model, teacher), Distillation())
    with pytest.raises(ValueError, match="'w48' is 48 in the policy's and none of its tokens"):
        check_learner(config(teacher, tiny_model), Distillation())


def test_a_teacher_that_is_not_there_is_refused_by_name(tiny_model: str, tmp_path: Path):
    (tmp_path / "export").mkdir()
    absent = str(tmp_path / "exprot")
    with pytest.raises(ValueError) as caught:
        check_learner(config(tiny_model, absent), Distillation())
    assert f"learner.reference_model: model.path is {absent!r}, and there is no" in str(
        caught.value
    )
    assert f"did you mean {str(tmp_path / 'export')!r}" in str(caught.value)


def test_a_reference_that_nothing_reads_is_not_loaded(tiny_model: str, teacher: str):
    settings = config(tiny_model, teacher, head="token_classification")
    with running(settings, LabelLoss()) as worker:
        assert worker.frozen is None
