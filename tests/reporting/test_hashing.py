"""What a model and its data are known by."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.reporting.hashing import SamplesHash, hash_prompts, hash_samples, hash_weights
from rlstep.types import LabelSamples
from tests.builders import make_prompt, make_sequence

TENSORS = {"a": b"\x01\x02", "b.weight": b"\x03\x04\x05\x06", "c": b""}


def write(file: Path, tensors: Mapping[str, bytes], **header: Any) -> None:
    """A safetensors file of bytes, by the format's definition."""
    entries, end = dict(header), 0
    for name, data in tensors.items():
        offsets = [end, end + len(data)]
        entries[name] = {"dtype": "U8", "shape": [len(data)], "data_offsets": offsets}
        end += len(data)
    text = json.dumps(entries).encode()
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(tensors.values()))


def sharded(folder: Path, *shards: Mapping[str, bytes]) -> Path:
    names = [f"model-{i}.safetensors" for i in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        write(folder / name, shard)
    index = {name: file for file, s in zip(names, shards, strict=True) for name in s}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def test_a_models_hash_by_hand(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {"a": b"\x01\x02"})
    # sha256 of the bytes 01 02, then of the line that names them.
    inner = "a12871fee210fb8619291eaea194581cbd2531e4b23759d225f6806923f63222"
    assert hashlib.sha256(b"\x01\x02").hexdigest() == inner
    expected = hashlib.sha256(f'"a" U8 (2,) {inner}\n'.encode()).hexdigest()
    assert hash_weights(tmp_path) == expected


def test_copied_renamed_reordered_and_sharded_weights_are_the_same_model(tmp_path: Path) -> None:
    write(tmp_path / "one" / "model.safetensors", TENSORS)
    write(
        tmp_path / "two" / "other.safetensors",
        dict(reversed(TENSORS.items())),
        __metadata__={"format": "pt"},
    )
    shards = [{"b.weight": TENSORS["b.weight"]}, {"a": TENSORS["a"], "c": b""}]
    folder = sharded(tmp_path / "three", *shards)
    write(folder / "consolidated.safetensors", {"x": b"1"})  # beside those that the index names
    assert len({hash_weights(tmp_path / name) for name in ("one", "two", "three")}) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {**TENSORS, "a": b"\x01\x03"},
        {**TENSORS, "d": b""},
        {"a": TENSORS["a"]},
        {"A": TENSORS["a"], **{n: t for n, t in TENSORS.items() if n != "a"}},
        {**TENSORS, "a": b"\x01\x02\x03", "b.weight": b"\x04\x05\x06"},  # the same bytes in a row
    ],
)
def test_any_change_is_another_model(changed: Mapping[str, bytes], tmp_path: Path) -> None:
    write(tmp_path / "one" / "model.safetensors", TENSORS)
    write(tmp_path / "two" / "model.safetensors", changed)
    assert hash_weights(tmp_path / "one") != hash_weights(tmp_path / "two")


def test_the_library_that_models_are_saved_with_is_read_the_same_way(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({n: np.frombuffer(t, np.uint8) for n, t in TENSORS.items()}, tmp_path / "x")
    (tmp_path / "x").rename(tmp_path / "model.safetensors")
    write(tmp_path / "two" / "model.safetensors", TENSORS)
    assert hash_weights(tmp_path) == hash_weights(tmp_path / "two")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.write_bytes(f.read_bytes()[:-1]), "model.safetensors is cut short: it has"),
        (lambda f: f.write_bytes(f.read_bytes()[:20]), "is no safetensors file, or is cut short"),
        (lambda f: f.write_bytes(b"abc"), "is no safetensors file, or is cut short"),
        (lambda f: f.write_bytes(struct.pack("<Q", 2) + b"[]"), "its header is not safetensors'"),
        (lambda f: f.write_bytes(struct.pack("<Q", 2) + b"{!"), "its header is not safetensors'"),
        (lambda f: f.rename(f.with_name("pytorch_model.bin")), "has no weights in safetensors"),
        (
            lambda f: f.with_name("model.safetensors.index.json").write_text("{}"),
            "model.safetensors.index.json: no index of weights",
        ),
        (
            lambda f: f.with_name("model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "gone.safetensors"}}'
            ),
            "gone.safetensors is in the index of weights, and is missing",
        ),
    ],
)
def test_what_has_no_hash_is_named_without_its_place(
    spoil: Any, message: str, tmp_path: Path
) -> None:
    write(tmp_path / "m" / "model.safetensors", TENSORS)
    spoil(tmp_path / "m" / "model.safetensors")
    with pytest.raises(ValueError, match=message) as caught:
        hash_weights(tmp_path / "m")
    assert str(tmp_path) not in str(caught.value)


# --- data ----------------------------------------------------------------------------------------


def test_prompts_by_hand() -> None:
    prompts = [replace(make_prompt("p"), text="1+1", answer="2")]
    line = b'["p", "1+1", "2"]\n'
    assert hash_prompts(prompts) == hashlib.sha256(line).hexdigest()
    assert hash_prompts([]) == hashlib.sha256().hexdigest()


TEXTS = st.text(alphabet='ab\n",', max_size=2)


@settings(max_examples=40)
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=2, max_size=4, unique=True))
def test_order_limit_text_and_answer_show(rows: list[tuple[str, str, str]]) -> None:
    def of(rows: list[tuple[str, str, str]]) -> str:
        return hash_prompts(replace(make_prompt(i), text=t, answer=a) for i, t, a in rows)

    assert of(rows) == of(list(rows))
    first = rows[0]
    others = [rows[::-1], rows[:-1]]
    others += [[(*first[:i], f"{first[i]}x", *first[i + 1 :]), *rows[1:]] for i in range(3)]
    assert of(rows) not in {of(other) for other in others}


def labels(target: float = 1.0, token: int = 7) -> LabelSamples:
    ids = np.array([1, token], np.int32)
    sequence = replace(make_sequence("s", [1]), token_ids=ids)
    targets, weights = np.full(2, target, np.float32), np.ones(2, np.float32)
    return LabelSamples(sequences=(sequence,), targets=(targets,), weights=(weights,))


def test_batches_are_in_the_hash_as_they_are_handed_on() -> None:
    seen = SamplesHash()
    stream = seen.passing([labels(), labels(0.0)])
    assert seen.batches == 0
    next(stream)
    assert seen.batches == 1 and seen.hexdigest() == hash_samples(labels())
    next(stream)
    assert seen.batches == 2 and seen.hexdigest() != hash_samples(labels(0.0))
    kinds = {hash_samples(x) for x in (labels(), labels(0.5), labels(token=8))}
    assert len(kinds) == 3
