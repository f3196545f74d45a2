"""Reading a model's tokenizer."""

from __future__ import annotations

from typing import Any


def read_tokenizer(path: str) -> Any:
    """The tokenizer of a model, as its tokenizer.json has it; none of the model's own code is run.

    Some classes of transformers (5.19) take only the vocabulary of that file and make the rest new,
    and a folder's class may come from its architecture: a Qwen2 folder with another pre-tokenizer
    is read with Qwen2's own, so that its texts become other tokens, without a word. Where what was
    read is not what the file holds, the file is taken as it stands.

    Args:
        path: a folder, or a Hugging Face hub id.

    Raises:
        OSError, ValueError: there is none, or of no known form.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.utils.hub import cached_file

    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    file = cached_file(path, "tokenizer.json", _raise_exceptions_for_missing_entries=False)
    if file is None or not hasattr(tokenizer, "backend_tokenizer"):
        return tokenizer  # made of other files
    from tokenizers import Tokenizer

    if _parts(tokenizer.backend_tokenizer) == _parts(Tokenizer.from_file(file)):
        return tokenizer
    return PreTrainedTokenizerFast.from_pretrained(path)


def _parts(tokenizer: Any) -> list[Any]:
    """What decides how a text becomes tokens, the vocabulary aside."""
    parts = (tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder)
    return [type(tokenizer.model), *(part and part.__getstate__() for part in parts)]
