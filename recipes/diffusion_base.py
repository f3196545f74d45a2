"""What the recipes of the diffusion policy share: short problems, canvases of 36 tokens."""

from dataclasses import dataclass
from pathlib import Path

from rlstep.interfaces import StartModel
from rlstep.tasks.arithmetic import Arithmetic, arithmetic_tokenizer

POLICY = str(Path(__file__).resolve().parent / "policies" / "arithmetic_diffusion")
TASK = Arithmetic(operations=3, largest_operand=9, largest_factor=3, limit=20)
CANVAS = 36
"""Tokens of a problem (8) and of the longest careful solution with its end token (28)."""


@dataclass(frozen=True, kw_only=True)
class RandomEncoder(StartModel):
    """A small Llama that reads both ways (EuroBERT's architecture), with random weights."""

    hidden_size: int = 128
    intermediate_size: int = 512
    layers: int = 2

    def write(self, folder: str, seed: int) -> None:
        import torch
        from transformers import EuroBertConfig, EuroBertForMaskedLM

        tokenizer = arithmetic_tokenizer()
        tokenizer.add_special_tokens({"mask_token": "<mask>"})
        torch.manual_seed(seed)
        model = EuroBertForMaskedLM(
            EuroBertConfig(
                vocab_size=24,
                hidden_size=self.hidden_size,
                intermediate_size=self.intermediate_size,
                num_hidden_layers=self.layers,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=256,
                tie_word_embeddings=True,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                mask_token_id=tokenizer.mask_token_id,
            )
        )
        model.config.canvas_length = CANVAS
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
