"""What heads predict, on real DeepSpeed and on frozen models, against plain torch."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rlstep.actors.learner.learner_group import LearnerGroup
from rlstep.actors.learner.models import check_learner, load_model
from rlstep.config import LearnerConfig, LoraConfig, ModelConfig, OptimizerConfig
from rlstep.interfaces import StepInputs
from rlstep.losses.step_label import StepLabelLoss
from rlstep.scoring.step_models.frozen_prm import FrozenPrm
from rlstep.scoring.step_models.math_shepherd import MathShepherdLayout
from rlstep.scoring.step_models.prm import Prm
from rlstep.scoring.step_models.qwen_math_prm import QwenMathPrmLayout
from rlstep.scoring.step_models.step_tags import StepTags
from rlstep.tensors.inputs import to_model
from rlstep.tensors.labels import step_labels
from rlstep.types import LabelSamples
from tests.actors.learner.learner_kit import running
from tests.actors.learner.prm_kit import (
    ROLLOUTS,
    apart,
    classifier,
    frozen,
    math_shepherd,
    qwen_math_prm,
    ragged,
    rows,
)
from tests.builders import make_counts
from tests.real_tokenizers import byte_level_tokenizer

PLUS, MINUS = 648, 387  # ' +' and ' -' of Mistral's vocabulary


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        "two_token": math_shepherd(tmp_path_factory.mktemp("shepherd")),
        "process_reward": qwen_math_prm(tmp_path_factory.mktemp("qwen")),
        "token_classification": classifier(tmp_path_factory.mktemp("one"), 1),
        "two_label": classifier(tmp_path_factory.mktemp("two"), 2),
    }


def config(path: str, head: Any, **fields: Any) -> LearnerConfig:
    values: dict[str, Any] = {
        "model": ModelConfig(path=path),
        "head": head,
        "threads": 1,
        "token_budget": 200,
        "reference": "none",
        "optimizer": OptimizerConfig(learning_rate=1e-2),
    }
    return LearnerConfig(**(values | fields))


@torch.no_grad()
def by_hand(path: str, head: str, ids: np.ndarray) -> Tensor:
    """P(good) of every token, float64, with nothing of rlstep."""
    import transformers as hf

    tokens = torch.tensor(ids.astype(np.int64))[None]
    if head == "two_token":
        pair = hf.AutoModelForCausalLM.from_pretrained(path)(tokens).logits[0][:, [MINUS, PLUS]]
        return pair.double().softmax(-1)[:, 1]
    if head == "process_reward":
        weights = load_file(Path(path) / "model.safetensors")
        base = hf.Qwen2Model(hf.Qwen2Config.from_pretrained(path))
        base.load_state_dict(
            {n.removeprefix("model."): w for n, w in weights.items() if n.startswith("model.")}
        )
        hidden = base.eval()(tokens).last_hidden_state[0]
        first = torch.relu(hidden @ weights["score.0.weight"].T + weights["score.0.bias"])
        pair = first @ weights["score.2.weight"].T + weights["score.2.bias"]
        return pair.double().softmax(-1)[:, 1]
    logits = hf.AutoModelForTokenClassification.from_pretrained(path).eval()(tokens).logits[0]
    return logits.double().softmax(-1)[:, 1] if head == "two_label" else logits[:, 0].sigmoid()


# --- predictions ----------------------------------------------------------------------------------

HEADS = ["two_token", "process_reward", "token_classification", "two_label"]


@pytest.mark.parametrize("head", HEADS)
def test_the_sigmoid_of_a_prediction_is_the_heads_probability(folders, head):
    ids = ragged(20_000)
    with frozen(config(folders[head], head)) as rank:
        got = rows(rank.predict(ids))
        assert not any(p.requires_grad for p in rank.engine.parameters())
    scores = [1 / (1 + np.exp(-row.astype(np.float64))) for row in got]
    expected = [by_hand(folders[head], head, row).numpy() for row in ids]
    assert apart(scores, expected) < 1e-5
    assert np.concatenate(scores).std() > 0.05  # and they differ


def test_predictions_do_not_depend_on_the_batch(folders):
    ids = ragged(20_000)
    got = {}
    for budget in (1, 130, 10_000):
        settings = config(folders["two_label"], "two_label", token_budget=budget)
        with frozen(settings) as rank:
            got[budget] = rows(rank.predict(ids))
    assert apart(got[1], got[130]) < 1e-4 and apart(got[1], got[10_000]) < 1e-4


def test_none_of_a_models_own_code_is_run(folders):
    settings = config(folders["process_reward"], "process_reward")
    check_learner(settings, None)
    prm = FrozenPrm(learner=settings, layout=QwenMathPrmLayout())
    assert prm.reader(byte_level_tokenizer()) is not None
    with frozen(settings) as rank:
        rank.predict(ragged(20_000, 2))
    assert (Path(folders["process_reward"]) / "modeling_qwen2_rm.py").exists()
    assert not (Path(folders["process_reward"]) / "ran").exists()


@pytest.mark.slow
async def test_ranks_share_the_work_of_a_frozen_model(ray_cluster, folders):
    ids = ragged(20_000)
    one = config(folders["process_reward"], "process_reward")
    with frozen(one) as rank:
        expected = rows(rank.predict(ids))
    group = await LearnerGroup.start(
        replace(one, world_size=2), None, name="prm", seed=0, deadline_s=1200.0
    )
    try:
        assert apart(await group.predict(ids), expected) < 1e-4
        assert apart(await group.predict(ids[:1]), expected[:1]) < 1e-4  # one rank has none
    finally:
        await group.close()


def test_a_frozen_model_shards(folders):
    ids = ragged(20_000, 4)
    got = []
    for stage in (0, 3):
        with frozen(config(folders["process_reward"], "process_reward", zero_stage=stage)) as rank:
            got.append(rows(rank.predict(ids)))
    assert apart(*got) < 1e-5


# --- training -------------------------------------------------------------------------------------


def labels(read: Any) -> LabelSamples:
    """First steps right, all others wrong, on the tokens that a layout reads."""
    counted = []
    for rollout in ROLLOUTS:
        n = len(rollout.steps)
        counts = make_counts([8] * n, [8, *[0] * (n - 1)])
        counted.append(rollout.with_scores(monte_carlo=counts))
    samples = step_labels(counted)
    return samples if read is None else to_model(samples, counted, read)


@pytest.mark.parametrize("lora", [0, pytest.param(4, marks=pytest.mark.slow)])
def test_a_two_token_head_learns_at_its_tags_and_is_a_warm_start(folders, tmp_path, lora):
    settings = config(
        folders["two_token"],
        "two_token",
        model=ModelConfig(path=folders["two_token"], lora=LoraConfig(rank=lora)),
    )
    prm = Prm(learner=settings, loss=StepLabelLoss(), layout=StepTags())
    read = prm.reader(byte_level_tokenizer())
    assert read is not None
    inputs = [read(rollout) for rollout in ROLLOUTS]
    ids = [x.token_ids for x in inputs if isinstance(x, StepInputs)]
    with running(settings, StepLabelLoss()) as worker:
        first = rows(worker.predict(ids))
        metrics = [worker.train(labels(read)) for _ in range(12)]
        trained = rows(worker.predict(ids))
        worker.export(str(tmp_path))
    # The first loss, by the softmax of the two tokens: 6 labels of equal weight.
    expected = [
        -math.log(p if k == 0 else 1 - p)
        for x, row in zip(inputs, first, strict=True)
        for k, p in enumerate(1 / (1 + np.exp(-row[x.read_at].astype(np.float64))))  # type: ignore[union-attr]
    ]
    assert len(expected) == 6
    assert metrics[0]["loss"] == pytest.approx(np.mean(expected), abs=1e-4)
    assert metrics[-1]["loss"] < 0.2 and metrics[-1]["label_accuracy"] == 1.0
    # What it exported is a language model that starts where it ended, trained or frozen.
    again = config(str(tmp_path), "two_token")
    with running(again, StepLabelLoss()) as worker:
        assert apart(rows(worker.predict(ids)), trained) < 1e-3
    with frozen(again) as rank:
        assert apart(rows(rank.predict(ids)), trained) < 1e-3


def test_a_new_head_of_two_labels_starts_at_one_half_and_learns(folders):
    settings = config(folders["two_token"], "two_label")  # the folder is a language model
    read = MathShepherdLayout().reader(*[tokenizer(folders)] * 2)
    with running(settings, StepLabelLoss()) as worker:
        losses = [worker.train(labels(read))["loss"] for _ in range(12)]
    assert losses[0] == pytest.approx(math.log(2.0), abs=1e-6) and losses[-1] < 0.3


def tokenizer(folders: dict[str, str]) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folders["two_token"])


def test_a_released_head_can_be_trained_on(folders, tmp_path):
    settings = config(folders["process_reward"], "process_reward")
    read = Prm(learner=settings, loss=StepLabelLoss(), layout=QwenMathPrmLayout()).reader(
        byte_level_tokenizer()
    )
    ids = ragged(20_000, 3)
    with running(settings, StepLabelLoss()) as worker:
        losses = [worker.train(labels(read))["loss"] for _ in range(10)]
        trained = rows(worker.predict(ids))
        worker.export(str(tmp_path))
    assert losses[-1] < 0.5 * losses[0]
    with frozen(config(str(tmp_path), "process_reward")) as rank:
        assert apart(rows(rank.predict(ids)), trained) < 1e-4


# --- bad input ------------------------------------------------------------------------------------


def test_label_tokens_that_are_several_are_refused_before_any_actor_starts(folders):
    settings = config(folders["two_label"], "two_token", label_tokens=(" +", " goodness me"))
    for loss in (None, StepLabelLoss()):
        with pytest.raises(ValueError, match=r"learner\.label_tokens is ' goodness me', which .*"):
            check_learner(settings, loss)
    with pytest.raises(ValueError, match=r"learner\.label_tokens is .*the two must differ"):
        config("m", "two_token", label_tokens=(" +", " +"))


def test_a_frozen_model_must_have_its_head(folders):
    settings, lost = config(folders["two_token"], "token_classification"), r"lacks 2 .*score\.bias"
    with pytest.raises(ValueError, match=lost), frozen(settings):
        pass
    load_model(settings, seed=0)  # to be trained it may be new


def test_a_head_of_two_layers_is_never_made_up(folders, tmp_path):
    for file in Path(folders["process_reward"]).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    kept = load_file(tmp_path / "model.safetensors")
    del kept["score.0.bias"]
    save_file(kept, tmp_path / "model.safetensors")
    settings, lost = config(str(tmp_path), "process_reward"), r"lacks 1 .*\['score\.0\.bias'\]"
    with pytest.raises(ValueError, match=lost):
        load_model(settings, seed=0)


def test_a_frozen_tokenizer_needs_no_pad_token(folders, tmp_path):
    # Math-Shepherd's has none; a model that is trained must have one.
    settings = config(folders["two_token"], "two_token")
    check_learner(settings, None)
    with pytest.raises(ValueError, match="has no pad_token"):
        check_learner(settings, StepLabelLoss())
