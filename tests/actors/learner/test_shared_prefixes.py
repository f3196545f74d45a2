"""A prefix that is computed once gives what it gives where every sequence has its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rlstep.actors.learner.branch_attention import attend
from rlstep.actors.learner.heads import make_head
from rlstep.actors.learner.learner_group import LearnerGroup
from rlstep.actors.learner.models import Wanted, check_learner, load_model, predict_tokens
from rlstep.actors.learner.shared_prefixes import use_branch_attention
from rlstep.actors.learner.vocabulary_head import use_vocabulary_head
from rlstep.adapters.lora import LoraConfig
from rlstep.config import LearnerConfig, ModelConfig, OptimizerConfig
from rlstep.interfaces import Loss
from rlstep.losses.divergence import ForwardKl
from rlstep.losses.full_step_dpo import FullStepDpo
from rlstep.losses.ppo import Ppo
from rlstep.tasks.arithmetic import arithmetic_tokenizer
from rlstep.tensors.batching import Rows, pack
from rlstep.tensors.bundles import Bundles, pack_bundles, shared_micro_batches
from rlstep.types import AdvantageSamples, Pair, PairSamples, Samples, Sequence
from tests.actors.families import make_family
from tests.actors.learner.learner_kit import VOCABULARY, running
from tests.actors.learner.test_packing import SETTINGS

PROMPT, PROMPTS, SIBLINGS = 12, 3, 4
SHARING = {
    *("Llama", "Qwen2", "Qwen3", "GPT2", "Olmo", "Qwen2Moe", "Qwen3Moe", "Gemma", "Glm4"),
    *("Cohere", "Granite", "GPTNeoX", "Olmo2", "Olmoe", "Phi", "SmolLM3"),
}
"""Families that can, as they are in SETTINGS (transformers 5.19)."""
WITHOUT_SDPA = {"GPTJ", "Bloom"}


def config(path: str, **changes: Any) -> LearnerConfig:
    optimizer = OptimizerConfig(learning_rate=1e-3, gradient_clip=0.0)
    values = {"model": ModelConfig(path=path), "threads": 1, "token_budget": 90}
    return LearnerConfig(**{**values, "optimizer": optimizer, **changes})


def siblings(prompts: int = PROMPTS) -> tuple[Sequence, ...]:
    """Four of each prompt, of which the second goes on as the first does, by a step of 4 tokens."""
    random = np.random.default_rng(0)
    made = []
    for p in range(prompts):
        prompt = random.integers(2, VOCABULARY, PROMPT)
        for i in range(SIBLINGS):
            completion = random.integers(2, VOCABULARY, 6 + int(random.integers(0, 9)))
            if i == 1:
                completion[:4] = made[-1].token_ids[PROMPT : PROMPT + 4]
            index = np.r_[np.full(PROMPT, -1), np.arange(len(completion)) // 4].astype(np.int32)
            made.append(
                Sequence(
                    sequence_id=f"{p}.{i}",
                    prompt_id=f"{p}",
                    token_ids=np.r_[prompt, completion].astype(np.int32),
                    loss_mask=index >= 0,
                    step_index=index,
                    rollout_logprobs=np.zeros(len(index), np.float32),
                    step_scores=random.random(index[-1] + 1).astype(np.float32),
                    oldest_version=0,
                )
            )
    return tuple(made)


def advantages() -> AdvantageSamples:
    random, rows = np.random.default_rng(1), siblings()
    columns = (random.standard_normal(len(s.token_ids)).astype(np.float32) for s in rows)
    return AdvantageSamples(sequences=rows, advantages=tuple(columns), groups=PROMPTS)


def pairs() -> PairSamples:
    firsts = [(p * SIBLINGS + i, p * SIBLINGS + i + 1) for p in range(PROMPTS) for i in (0, 2)]
    made = [
        Pair(
            chosen=chosen,
            rejected=rejected,
            shared_prefix=PROMPT + 4 * (chosen % SIBLINGS == 0),
            chosen_score=1.0,
            rejected_score=0.0,
            provenance="test",
        )
        for chosen, rejected in firsts
    ]
    return PairSamples(sequences=siblings(), pairs=tuple(made), groups=PROMPTS)


# --- the law --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A model in float64 throughout (a Llama's or Qwen's norms are in float32): with and without
    logits, and with a head of two numbers a token."""
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "vocab_size": VOCABULARY}
    path = make_family(tmp_path_factory.mktemp("phi"), "Phi", **sizes, initializer_range=0.2)

    def load(**changes: Any) -> Any:
        model = load_model(config(path, **changes), 0, outputs=2).double()
        use_branch_attention(model)
        return model

    direct, plain, scores = load(), load(), load(head="token_classification")
    use_vocabulary_head(direct)
    nn.init.normal_(scores.score.weight, generator=torch.Generator().manual_seed(0))
    return {"direct": direct, "logits": plain, "scores": scores}


def read(
    model: Any, head: Any, ids: list[np.ndarray], parts: list[Rows], wanted: Wanted
) -> tuple[dict[int, Tensor], list[Tensor]]:
    """Predictions by position, and the gradient of a random weighting of them."""
    weights = [
        torch.from_numpy(np.random.default_rng(i).standard_normal((len(row), 1)))
        for i, row in enumerate(ids)
    ]
    found, total = {}, torch.zeros((), dtype=torch.float64)
    for rows in parts:
        batch = pack_bundles(ids, rows) if isinstance(rows, Bundles) else pack(ids, rows)
        for position, values in zip(
            chain(*rows), predict_tokens(model, batch, head, wanted), strict=True
        ):
            values = values[: len(ids[position])]
            values = values if values.ndim == 2 else values[:, None]
            found[position] = values.detach()
            total = total + (values * weights[position]).sin().sum()
    model.zero_grad()
    total.backward()
    return found, [p.grad for p in model.parameters() if p.grad is not None]


def check_law(model: Any, head: Any, ids: list[np.ndarray], parts: Any, wanted: Wanted) -> None:
    expected = read(model, head, ids, [[[i] for i in range(len(ids))]], wanted)
    found = read(model, head, ids, parts, wanted)
    assert found[0].keys() == expected[0].keys() and len(found[1]) == len(expected[1]) > 0
    for position, values in expected[0].items():
        assert (found[0][position] - values).abs().max() <= 1e-9
    for gradient, plain in zip(found[1], expected[1], strict=True):
        assert (gradient - plain).abs().max() <= 1e-9 * (1.0 + plain.abs().max())


@st.composite
def groups(draw: Any) -> tuple[list[np.ndarray], Bundles]:
    """Two prompts with completions that may begin alike, be empty or be the same; and their
    positions by prompt."""
    tokens = st.lists(st.integers(2, VOCABULARY - 1), max_size=6)
    rows: list[list[int]] = []
    by_prompt = Bundles()
    for _ in range(2):
        prompt, steps = draw(tokens), draw(tokens)
        completions = draw(st.lists(st.tuples(st.booleans(), tokens), min_size=1, max_size=3))
        by_prompt.append(list(range(len(rows), len(rows) + len(completions))))
        rows += [[*prompt, *(steps if same else []), *own] or [2] for same, own in completions]
    return [np.array(row, dtype=np.int32) for row in rows], by_prompt


@settings(max_examples=30)
@given(groups(), st.sampled_from(["direct", "logits", "scores"]), st.integers(10, 60), st.data())
def test_predictions_and_gradients_are_those_of_sequences_alone(
    double, tiny_model, made, kind, budget, data
):
    ids, by_prompt = made
    head = make_head(config(tiny_model))
    wanted = Wanted(entropies=True, temperature=0.8)
    if kind == "scores":  # the head's own `read` rounds to float32
        wider = make_head(config(tiny_model, head="token_classification"), 2)
        head, wanted = replace(wider, read=lambda logits, _: logits), Wanted()
    together = Bundles([data.draw(st.permutations(range(len(ids))))])
    cut = shared_micro_batches(ids, budget, 1, packing=True)[0]  # as the learner does
    parts = data.draw(st.sampled_from([cut, [by_prompt], [together]]))
    check_law(double[kind], head, ids, parts, wanted)


def test_divergences_are_those_of_sequences_alone(double, tiny_model):
    ids = [s.token_ids for s in siblings(2)]
    head, parts = make_head(config(tiny_model)), [Bundles([[0, 1, 2, 3], [4, 5, 6, 7]])]
    reference = double["direct"].get_input_embeddings().weight.detach()

    def of_its_token(logits: Tensor) -> Tensor:
        """Knows a position by its logits alone, as a reference's stand beside them."""
        towards = logits.detach().roll(1, -1) @ reference @ reference.t()
        return ForwardKl(top_k=5)(logits, towards)

    check_law(double["logits"], head, ids, parts, Wanted(divergences=of_its_token))


# --- whole updates --------------------------------------------------------------------------------


def update(settings: LearnerConfig, loss: Loss, samples: Samples) -> Any:
    """Metrics, gradients and inputs of a scalar head (none without) of an update."""
    gradients: dict[str, Tensor] = {}
    with running(settings, loss) as worker:
        step = worker._step

        def keep(*arguments: Any) -> None:
            named = worker.engine.module.named_parameters()
            gradients.update({n: p.grad.clone() for n, p in named if p.grad is not None})
            step(*arguments)

        worker._step = keep  # type: ignore[method-assign]
        return worker.train(samples), gradients


PPO = Ppo(entropy=0.01)
CASES: list[Any] = [
    pytest.param(PPO, advantages, {}, id="policy gradient"),
    pytest.param(FullStepDpo(), pairs, {"reference": "initial"}, id="frozen reference"),
    pytest.param(
        Ppo(distillation=0.5, divergence=ForwardKl(top_k=5)),
        advantages,
        {"reference": "initial", "mini_batches": 1},
        id="divergence from a frozen reference",
    ),
    pytest.param(
        FullStepDpo(),
        pairs,
        {"lora": LoraConfig(rank=2), "gradient_checkpointing": True, "reference": "initial"},
        id="adapters, checkpointed",
    ),
]


@pytest.mark.parametrize(("loss", "samples", "changes"), CASES)
def test_an_update_is_that_without(tiny_model: str, loss: Loss, samples: Callable, changes: Any):
    of_model = {k: changes[k] for k in changes.keys() & {"lora", "gradient_checkpointing"}}
    rest = {k: changes[k] for k in changes.keys() - of_model.keys()}
    plain = config(tiny_model, model=ModelConfig(path=tiny_model, **of_model), **rest)
    expected, gradients = update(plain, loss, samples())
    metrics, shared = update(replace(plain, shared_prefixes=True), loss, samples())
    assert metrics.pop("shared_tokens") == metrics["tokens"] - metrics["padded_tokens"] > 60
    for name in expected.keys() - {"padded_tokens", "seconds"}:
        assert metrics[name] == pytest.approx(expected[name], rel=1e-6, abs=1e-6), name
    assert gradients.keys() == shared.keys() and gradients
    norm = torch.stack([g.norm() for g in gradients.values()]).norm()
    assert norm > 1e-3
    for name, gradient in gradients.items():
        assert (shared[name] - gradient).norm() <= 1e-6 * norm, name


def test_what_shares_nothing_is_today_s_to_the_bit(tiny_model: str):
    samples = advantages()
    apart = tuple(
        replace(s, token_ids=np.r_[np.int32(2 + i), s.token_ids[1:]])
        for i, s in enumerate(samples.sequences)
    )
    samples, plain = replace(samples, sequences=apart), config(tiny_model)
    expected, gradients = update(plain, PPO, samples)
    metrics, shared = update(replace(plain, shared_prefixes=True), PPO, samples)
    assert metrics.pop("shared_tokens") == 0.0
    assert {**metrics, "seconds": expected["seconds"]} == expected
    assert all(torch.equal(shared[name], gradient) for name, gradient in gradients.items())


def test_the_inputs_of_a_scalar_head(tiny_model: str):
    ids = [s.token_ids for s in siblings()]
    at = [np.array([0, PROMPT - 1, PROMPT, len(row) - 1]) for row in ids]
    found = []
    for sharing in (False, True):
        settings = config(tiny_model, head="token_classification", shared_prefixes=sharing)
        with running(settings, Ppo()) as worker:
            found.append(worker.embed((ids, at)))
    assert found[0].keys() == found[1].keys() == set(range(len(ids)))
    for position, values in found[0].items():
        assert np.abs(found[1][position] - values).max() <= 1e-5


@pytest.mark.slow
async def test_two_ranks_are_one(ray_cluster, tiny_model: str):
    one = config(tiny_model, zero_stage=3, reference="initial")
    expected, _ = update(replace(one, zero_stage=0), FullStepDpo(), pairs())
    two = replace(one, world_size=2, shared_prefixes=True, token_budget=60)
    group = await LearnerGroup.start(two, FullStepDpo(), name="policy", seed=0, deadline_s=1200)
    try:
        metrics = await group.train(pairs())
    finally:
        await group.close()
    assert metrics["padding"] == 0.0 and metrics["shared_tokens"] > 60
    for name in ("loss", "margin", "grad_norm"):
        assert metrics[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-6), name


# --- who cannot -----------------------------------------------------------------------------------

FAMILIES = [
    pytest.param(family, marks=() if family in ("Qwen2", "OPT") else pytest.mark.slow)
    for family in SETTINGS
    if family not in WITHOUT_SDPA
]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_reads_bundles_as_if_alone_or_is_refused(tmp_path: Path, family: str):
    settings = config(make_family(tmp_path, family, **SETTINGS[family]))
    model: Any = load_model(settings, 0)
    if family not in SHARING:
        with pytest.raises(ValueError, match=r"shared_prefixes is True, but \w+ (has|reads|does)"):
            use_branch_attention(model)
        return
    use_branch_attention(model)
    ids = [s.token_ids % 23 + 1 for s in siblings(1)]
    check = [predict_tokens(model, pack([row], [[0]]), make_head(settings))[0] for row in ids]
    batch = pack_bundles(ids, Bundles([[0, 1, 2, 3]]))
    for row, expected in zip(predict_tokens(model, batch, make_head(settings)), check, strict=True):
        assert (row[: len(expected)] - expected).abs().max() <= 1e-5


WINDOWS: list[Any] = [
    ("Mistral", {"sliding_window": 4096}, "sliding_window 4096"),
    ("Gemma3", {}, "sliding_attention"),
    ("Lfm2", {"layer_types": ["conv", "full_attention"]}, "conv"),
    ("Llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope_type dynamic"),
]


@pytest.mark.parametrize(("family", "sizes", "named"), WINDOWS)
def test_what_a_few_tokens_do_not_show_is_refused_by_name(
    tmp_path: Path, family: str, sizes: dict[str, Any], named: str
):
    path = make_family(tmp_path, family, **sizes)
    arithmetic_tokenizer().save_pretrained(path)
    check_learner(config(path), Ppo())
    message = rf"learner\.shared_prefixes is True, but \w+ has {named}; .* value is False"
    with pytest.raises(ValueError, match=message):
        check_learner(config(path, shared_prefixes=True), Ppo())


def test_a_model_that_takes_no_word_of_bundles_is_refused(tiny_model: str, monkeypatch):
    model: Any = load_model(config(tiny_model), 0)
    forward = type(model).forward
    monkeypatch.setattr(
        type(model),
        "forward",
        lambda self, input_ids, position_ids=None, attention_mask=None, use_cache=None: forward(
            self, input_ids, position_ids=position_ids, use_cache=use_cache
        ),
    )
    with pytest.raises(ValueError, match=r"Qwen2ForCausalLM does not take bundles \(.*branches"):
        use_branch_attention(model)


def test_without_a_word_of_bundles_it_is_the_plain_attention(tiny_model: str):
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    layer: Any = load_model(config(tiny_model), 0).model.layers[0].self_attn  # type: ignore[union-attr]
    query, key = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8)
    expected, _ = sdpa_attention_forward(layer, query, key, key, None, scaling=0.3)
    assert torch.equal(attend(layer, query, key, key, None, scaling=0.3)[0], expected)


@pytest.mark.parametrize("attention", ["eager", "flash_attention_2"])
def test_other_attentions_are_refused_first(attention: Any):
    message = rf"model\.attention is '{attention}', .* the only valid value is 'sdpa'"
    model = ModelConfig(path="m", attention=attention)
    with pytest.raises(ValueError, match=rf"learner\.{message}"):
        LearnerConfig(model=model, shared_prefixes=True)
    with pytest.raises(ValueError, match=rf"learner\.reference_{message}"):
        config("m", shared_prefixes=True, reference="model", reference_model=model)


def test_canvases_share_nothing():
    with pytest.raises(ValueError, match=r"learner\.shared_prefixes is True, which .* is False"):
        config("m", head="masked_diffusion", packing=False, shared_prefixes=True)
