"""A tiny random model of every family that README's table names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

VOCABULARY = 24
"""That of the arithmetic tokenizer."""

MIXTURE = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {"head_dim": 32},
    "Gemma2": {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 64},
    "Gemma3": {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 64},
    "Mistral": {"head_dim": 32},
    "Phi3": {},
    "GPT2": {},
    "Falcon": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "Olmo": {},
    "Mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "Qwen2Moe": {
        **MIXTURE,
        "num_experts": 4,
        "shared_expert_intermediate_size": 64,
        "norm_topk_prob": False,
    },
    "Qwen3Moe": {**MIXTURE, "num_experts": 4, "head_dim": 32, "norm_topk_prob": True},
}
"""What each sets beside the sizes that all have."""
MIXTURES = ("Mixtral", "Qwen2Moe", "Qwen3Moe")
TIED_AS_RELEASED = ("Gemma2", "Gemma3", "GPT2", "Falcon")
"""The smaller Llama and Qwen models tie theirs, too."""


def make_family(
    folder: Path, family: str, *, tied: bool | None = None, dtype: str = "float32", **sizes: Any
) -> str:
    """Hidden size 128 in 4 heads of 32, which the CPU engine serves, and two layers; any of
    transformers' decoders, where it takes these sizes."""
    import torch
    import transformers

    settings: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 128,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.1,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 1,
        "tie_word_embeddings": family in TIED_AS_RELEASED if tied is None else tied,
        **FAMILIES.get(family, {}),
        **sizes,
    }
    name = {"Gemma3": "Gemma3Text"}.get(family, family)
    kind = {"GPT2": "GPT2LMHeadModel"}.get(family, f"{family}ForCausalLM")
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**settings)
    model = getattr(transformers, kind)(config)
    with torch.no_grad():  # norms of 1 and biases of 0 would hide that they are lost
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    return str(folder)
