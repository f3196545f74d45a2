"""A tokenizer without a model: one token per byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any


class ByteTokenizer:
    """UTF-8 bytes are the ids 0..255; 256 pads, 257 ends a sequence (see interfaces.Tokenizer)."""

    pad_token_id: int | None = 256
    eos_token_id: int | None = 257
    chat_template: str | None = None
    added_tokens_decoder: Mapping[int, Any] = MappingProxyType({})
    """No text is a special token's."""

    def __len__(self) -> int:
        return 258

    def encode(
        self, text: str, add_special_tokens: bool = False, split_special_tokens: bool = False
    ) -> list[int]:
        return list(text.encode())

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return bytes(i for i in token_ids if i < 256).decode(errors="replace")

    def apply_chat_template(self, conversation: list[dict[str, str]], **kwargs: Any) -> Any:
        raise ValueError("tokenizer has no chat template")
