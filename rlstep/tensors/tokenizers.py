"""Reading a model's tokenizer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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


def reading_tags(tokenizer: Any, tags: Collection[str]) -> Any:
    """The tokenizer that reads completions: of the special tokens it leaves out, as `decode` does,
    all but those that tags are made of, which a completion speaks with.

    Texts become tokens as before: where data hold such a tag, it is text.

    Args:
        tokenizer: a Hugging Face tokenizer.
        tags: of thoughts and calls; each is any number of special tokens and other text.
    """
    special = {i: t.content for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    spoken = {i for i, text in special.items() if text and any(text in tag for tag in tags)}
    return _TagReader(tokenizer, spoken, special.keys() - spoken) if spoken else tokenizer


class _TagReader:
    """A tokenizer but for `decode`."""

    def __init__(self, tokenizer: Any, spoken: Collection[int], silent: Collection[int]) -> None:
        self._tokenizer, self._spoken, self._silent = tokenizer, frozenset(spoken), silent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __len__(self) -> int:
        return len(self._tokenizer)

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        if not skip_special_tokens or self._spoken.isdisjoint(token_ids):
            return self._tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens)
        shown = [i for i in token_ids if i not in self._silent]
        return self._tokenizer.decode(shown, skip_special_tokens=False)
