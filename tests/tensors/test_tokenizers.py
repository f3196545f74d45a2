"""A tokenizer is what its file says, whatever class its folder names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rlstep.tensors.tokenizers import read_tokenizer

TEXT = "12 + 345 = 357, isn't it?"
TYPES = ("qwen2", "llama", "qwen3", "qwen2_moe", "mistral", "gpt2", "gemma2", "phi3")
CLASSES = ("TokenizersBackend", "Qwen2Tokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast")


@pytest.fixture(scope="module")
def made() -> Tokenizer:
    """Digits stay together, which neither Qwen2's own nor Llama's would do."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<pad>", "<|endoftext|>"])  # type: ignore[call-arg]
    tokenizer.train_from_iterator([TEXT] * 50, trainer)
    return tokenizer


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("model_type", TYPES)
def test_the_file_is_read_as_it_stands(
    tmp_path: Path, made: Tokenizer, model_type: str, kind: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|endoftext|>", pad_token="<pad>"
    ).save_pretrained(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer_class": kind}))
    read = read_tokenizer(str(tmp_path))
    assert read.encode(TEXT, add_special_tokens=False) == made.encode(TEXT).ids
    assert read.decode(made.encode(TEXT).ids) == TEXT
    assert (read.pad_token_id, read.eos_token_id) == (0, 1)


def test_a_folder_of_its_class_keeps_it(tmp_path: Path) -> None:
    from transformers import Qwen2Tokenizer

    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    vocabulary = {"<|endoftext|>": 0, "a": 1, "b": 2, "ab": 3}
    Qwen2Tokenizer(vocab=vocabulary, merges=[("a", "b")]).save_pretrained(tmp_path)  # type: ignore[arg-type]
    assert type(read_tokenizer(str(tmp_path))) is Qwen2Tokenizer
