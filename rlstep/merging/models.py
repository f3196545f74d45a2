"""The models that are merged: Hugging Face folders, read one weight at a time."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlstep.tensors.tokenizers import read_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

_WEIGHTS = "model.safetensors"
_INDEX = f"{_WEIGHTS}.index.json"

_OF_NO_EFFECT = {
    "_name_or_path",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
}
"""Of a config.json what no weight depends on."""


class ModelFolder:
    """A model on disk. Nothing of its weights is held."""

    def __init__(self, path: str) -> None:
        """
        Raises:
            ValueError: there is no model in safetensors; names the nearest folder.
        """
        self.path = path
        folder = Path(path)
        if not folder.is_dir():
            near = [str(p) for p in folder.parent.glob("*/") if p.is_dir()]
            match = difflib.get_close_matches(path, near, 1)
            hint = f"; did you mean {match[0]!r}?" if match else ""
            raise ValueError(f"{path}: there is no such folder{hint}")
        names = sorted(p.name for p in folder.iterdir())
        if "config.json" not in names or not {_WEIGHTS, _INDEX} & set(names):
            raise ValueError(
                f"{path}: no model, which has a config.json and a {_WEIGHTS}, but {names[:10]}"
            )

    @cached_property
    def config(self) -> Any:
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(self.path, trust_remote_code=False)
        except (OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"{self.path}: its config.json cannot be read: {reason}") from error

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Of its configuration what its weights are for."""
        found: dict[str, Any] = self.config.to_dict()
        return {name: value for name, value in found.items() if name not in _OF_NO_EFFECT}

    @cached_property
    def tokenizer(self) -> Any:
        try:
            return read_tokenizer(self.path)
        except (OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"{self.path}: its tokenizer cannot be read: {reason}") from error

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of its weights, by their names in the file: a tied one once."""
        twice = self._tied_twice
        return {
            name: tuple(file.get_slice(name).get_shape())
            for name, file in self._files.items()
            if name not in twice
        }

    @cached_property
    def buffers(self) -> frozenset[str]:
        """What is saved and not trained."""
        return frozenset(name for name, _ in self._empty.named_buffers())

    def weight(self, name: str) -> Tensor:
        """In the numbers of the file."""
        return self._files[name].get_tensor(name)

    @cached_property
    def _files(self) -> Mapping[str, Any]:
        """The open file of every weight."""
        from safetensors import SafetensorError, safe_open

        folder, index = Path(self.path), Path(self.path) / _INDEX
        try:
            names = {_WEIGHTS}
            if index.is_file():
                names = set(json.loads(index.read_text())["weight_map"].values())
            opened = [safe_open(folder / name, framework="pt") for name in sorted(names)]
        except (OSError, SafetensorError, json.JSONDecodeError, KeyError) as error:
            raise ValueError(f"{self.path}: its weights cannot be read: {error}") from error
        return {name: file for file in opened for name in file.keys()}  # noqa: SIM118

    @cached_property
    def _empty(self) -> Any:
        """The model on no device, for what is tied and what is a buffer."""
        import torch
        import transformers

        [kind, *_] = self.config.architectures or [""]
        made = getattr(transformers, kind, None)
        if made is None:
            raise ValueError(f"{self.path}: transformers has no architecture {kind!r}")
        with torch.device("meta"):
            model = made(self.config)
        model.tie_weights()
        return model

    @cached_property
    def _tied_twice(self) -> frozenset[str]:
        """Names in the file of a weight that stands there under another name as well."""
        first: dict[int, str] = {}
        found = set()
        for name, parameter in self._empty.named_parameters(remove_duplicate=False):
            if name in self._files and first.setdefault(id(parameter), name) != name:
                found.add(name)
        return frozenset(found)


def check_alike(base: ModelFolder, models: Sequence[ModelFolder]) -> None:
    """Refuse models that did not come from the base.

    Raises:
        ValueError: another architecture, setting, tokenizer, or other weights or shapes of weights;
            names the folder and the first thing that differs.
    """
    for model in models:
        _same("config.json:", model, base, base.settings, model.settings)
        _same("token", model, base, base.tokenizer.get_vocab(), model.tokenizer.get_vocab())
        _same("tokenizer:", model, base, _reading(base), _reading(model))
        _same("weight", model, base, base.shapes, model.shapes)


def _same(
    what: str, model: ModelFolder, base: ModelFolder, own: Mapping[str, Any], other: Mapping
) -> None:
    """Refuse another mapping than the base's `own`, by the first entry that differs."""
    for name in sorted({**own, **other}, key=lambda name: (name != "architectures", name)):
        if own.get(name) != other.get(name):
            raise ValueError(
                f"{model.path}, {what} {name!r} is {_said(other, name)}, and {_said(own, name)} in"
                f" the base {base.path}"
            )


def _said(found: Mapping[str, Any], name: str) -> str:
    return repr(found[name]) if name in found else "absent"


def _reading(model: ModelFolder) -> Mapping[str, Any]:
    """What decides how a text becomes tokens, the vocabulary aside; {} where it cannot be told."""
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        return {}
    parts = json.loads(backend.to_str())
    return {name: parts[name] for name in ("normalizer", "pre_tokenizer", "decoder")}
