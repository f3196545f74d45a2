"""The learner's model: checking it before anything starts, loading, calling and unloading it.

Dimensions: N sequences, L tokens (padded).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlstep.actors.learner.adapters import check_adapters
from rlstep.actors.learner.branch_attention import check_layers
from rlstep.actors.learner.heads import Head, label_token_ids, make_head
from rlstep.actors.learner.vocabulary_head import find_vocabulary_head
from rlstep.actors.weights.merged import base_model, keep_conversion
from rlstep.config import LearnerConfig, ModelConfig
from rlstep.diffusion.canvas import read_canvas
from rlstep.interfaces import COLUMNS, Loss
from rlstep.scoring.step_models.prm_text import needs_same_ids
from rlstep.tensors.batching import PackedBatch, Rows
from rlstep.tensors.logprobs import token_logprobs, token_logprobs_and_entropies
from rlstep.tensors.tokenizers import read_tokenizer
from rlstep.types import TokenIds


def check_model(path: str) -> None:
    """Refuse a model that could not be trained, before any process starts.

    Args:
        path: a folder, or a Hugging Face hub id.

    Raises:
        ValueError: a path that looks local is no folder, or the tokenizer lacks a pad or
            end-of-sequence token, or has more tokens than the model.
    """
    tokenizer = _check_folder(path)
    for name in ("pad_token", "eos_token"):
        if getattr(tokenizer, name) is None:
            raise ValueError(
                f"the tokenizer of model.path {path!r} has no {name}; set tokenizer.{name} and save"
                " the tokenizer there"
            )


def _check_folder(path: str) -> Any:
    """The tokenizer of a model whose tokenizer and configuration fit; see `check_model`."""
    if looks_local(path) and not Path(path).is_dir():
        parent = Path(path).parent
        names = [p.name for p in parent.iterdir() if p.is_dir()] if parent.is_dir() else []
        near = difflib.get_close_matches(Path(path).name, names, n=1)
        hint = f"; did you mean {str(parent / near[0])!r}?" if near else ""
        raise ValueError(f"model.path is {path!r}, and there is no such folder{hint}")
    if Path(path).is_dir() and not (Path(path) / "config.json").is_file():
        names = sorted(p.name for p in Path(path).iterdir())[:10]
        raise ValueError(
            f"model.path is {path!r}, a folder without a model: it has no config.json, only {names}"
        )
    from transformers import AutoConfig

    try:
        tokenizer = read_tokenizer(path)
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:  # no such id or file, no network, an unknown format
        reason = str(error).partition("\n")[0]
        missing = "" if Path(path).is_dir() else "there is no such folder, and from the hub "
        raise ValueError(
            f"model.path is {path!r}, and {missing}it cannot be loaded: {reason}"
        ) from error
    embeddings = config.get_text_config().vocab_size
    if len(tokenizer) > embeddings:
        raise ValueError(
            f"the tokenizer of model.path {path!r} has {len(tokenizer)} tokens and the model only"
            f" {embeddings} embeddings"
        )
    return tokenizer


def check_learner(config: LearnerConfig, loss: Loss | None) -> None:
    """Refuse, before any actor starts, what could not be trained, or for no loss be read.

    Raises:
        ValueError: the model (see `check_model`; a frozen one needs no pad or end token), label
            tokens that its tokenizer splits, an attention that its architecture lacks or that
            leaves a part out, layers that cannot share prefixes (see `check_layers`), targets of
            adapters (see `check_adapters`), a diffusion model without canvases (see
            `read_canvas`), a loss that reads what nobody computes, or a reference model that
            cannot be loaded or has other tokens.
    """
    if loss is None:
        _check_folder(config.model.path)
    else:
        check_model(config.model.path)
    if config.head == "two_token":
        label_token_ids(config)
    model = empty_model(config.model.path, make_head(config))
    _check_attention(model, config.model)
    if config.shared_prefixes:
        check_layers(model)
    if adapter := config.model.adapters:
        check_adapters(model, adapter)
    if config.head == "masked_diffusion":
        read_canvas(config.model.path)
    if loss is not None:
        _check_reads(config, loss)
        _check_reference(config)


def _check_reference(config: LearnerConfig) -> None:
    """Refuse a reference model that would read the learner's ids as other tokens."""
    if (reference := config.reference_model) is None:
        return
    name = "learner.reference_model"
    try:
        _check_folder(reference.path)
        model = empty_model(reference.path, make_head(config))
        _check_attention(model, reference)
        if config.shared_prefixes:
            check_layers(model)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    needs_same_ids(f"{name}.path", read_tokenizer(config.model.path), reference.path)


def _check_attention(model: Any, settings: ModelConfig) -> None:
    """Not every architecture has every attention, and transformers (5.19) leaves the soft cap of
    attention, Gemma 2's, out of 'sdpa' silently."""
    attention, name = settings.attention, type(model).__name__
    has = {"sdpa": model._supports_sdpa, "flash_attention_2": model._supports_flash_attn}
    capped = getattr(model.config.get_text_config(), "attn_logit_softcapping", None)
    if not has.get(attention, True):
        reason = f"which transformers does not have for {name}"
    elif attention == "sdpa" and capped:
        reason = f"which leaves out the soft cap of {name}'s attention"
    else:
        return
    raise ValueError(
        f"model.attention is {attention!r}, {reason}; the nearest valid value for"
        f" {settings.path!r} is 'eager'"
    )


def _check_reads(config: LearnerConfig, loss: Loss) -> None:
    if config.reference == "none" and "ref_logprobs" in loss.reads:
        raise ValueError(
            f"learner.reference is 'none', but {type(loss).__name__} reads ref_logprobs;"
            " the nearest valid value is 'iteration'"
        )
    columns = [column for column in COLUMNS if column in loss.reads]
    if columns and not (loss.separable and config.head == "language_model"):
        raise ValueError(
            f"loss {type(loss).__name__} reads {' and '.join(columns)}: it must be separable and"
            " its learner.head 'language_model'"
        )
    if "divergences" in loss.reads and config.fixed_reference is None:
        raise ValueError(
            f"learner.reference is {config.reference!r}, but {type(loss).__name__} reads"
            " divergences, of which nothing is kept of an iteration's first policy; it must be"
            " 'model', with the teacher as learner.reference_model, or 'initial'"
        )
    plain = loss.separable and not loss.reads and config.head == "token_classification"
    if loss.outputs > 1 and not plain:
        raise ValueError(
            f"loss {type(loss).__name__} is for a head of {loss.outputs} outputs: it must be"
            " separable, read nothing and its learner.head be 'token_classification'"
        )


def looks_local(path: str) -> bool:
    """Hub ids are 'name' or 'owner/name'; a folder that is named like the owner is meant first."""
    if path.startswith(("/", ".", "~")) or path.count("/") > 1 or Path(path).is_file():
        return True
    return "/" in path and Path(path).parent.is_dir()


def empty_model(path: str, head: Head | None = None) -> Any:
    """The model on no device, to count and to check: nothing of its weights is read.

    Args:
        head: without one a language model's, causal where its configuration has that form.

    Raises:
        OSError, ValueError: its configuration cannot be loaded.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

    labels = {"num_labels": head.labels} if head and head.labels else {}
    config: Any = AutoConfig.from_pretrained(path, trust_remote_code=False, **labels)
    causal = type(config) in AutoModelForCausalLM._model_mapping
    kind = head.model_class if head else AutoModelForCausalLM if causal else AutoModelForMaskedLM
    with torch.device("meta"):
        model: Any = getattr(kind, "from_config", kind)(config)
    model.tie_weights()  # building on no device leaves a tied head apart
    return model


def load_model(
    config: LearnerConfig, seed: int, outputs: int = 1, *, complete: bool = False
) -> nn.Module:
    """The model of one rank, on the CPU, in training mode, deterministic (no dropout).

    Args:
        outputs: numbers a token of a token-classification head.
        complete: whether the folder must have the head, too: the model is not to be trained.

    Raises:
        ValueError: the folder lacks weights of the model.
    """
    torch.manual_seed(seed)
    head = make_head(config, outputs)
    model, info = head.model_class.from_pretrained(
        config.model.path,
        dtype=getattr(torch, config.model.dtype),
        attn_implementation=config.model.attention,
        output_loading_info=True,
        trust_remote_code=False,
        **({"num_labels": head.labels} if head.labels else {}),
    )
    new_head = head.may_be_new and not complete
    _start_head_at_zero(model, set(info["missing_keys"]), new_head, config.model.path)
    keep_conversion(model)
    _turn_dropout_off(model)
    if config.model.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if adapter := config.model.adapters:
        model = adapter.put_on(model, classifier=bool(head.labels))
    return model.train()


def _start_head_at_zero(model: Any, missing: set[str], new_head: bool, path: str) -> None:
    """Weights that the folder lacks are an untrained head, or an error."""
    body = f"{model.base_model_prefix}."
    lost = sorted(name for name in missing if not new_head or name.startswith(body))
    if lost:
        raise ValueError(f"model.path {path!r} lacks {len(lost)} weights of the model: {lost[:3]}")
    with torch.no_grad():
        for name in missing:
            model.get_parameter(name).zero_()


def _turn_dropout_off(model: nn.Module) -> None:
    """Probability ratios compare two passes through the same function."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0  # type: ignore[assignment]  # a number, not a module


def model_inputs(batch: PackedBatch) -> dict[str, Any]:
    """What a Hugging Face model is called with.

    No attention mask: nothing before the padding sees it, and packed sequences are told apart by
    their places (transformers' masks, and flash attention's lengths, are made of these). Bundles
    say more, see `branch_attention`.
    """
    places = {} if batch.places is None else {"position_ids": batch.places}
    return {"input_ids": batch.token_ids, **places, **batch.attention(), "use_cache": False}


@torch.no_grad()
def check_packing(model: nn.Module, lay_out: Callable[[Seq[TokenIds], Rows], PackedBatch]) -> None:
    """Refuse to pack where a sequence sees the one before it in its row.

    Many of transformers' (5.19) models make their masks without places, OPT, Bloom and Falcon among
    them, and recurrent layers carry one sequence on into the next, all without a word.

    The law: what another first sequence changes in the hidden states of the second must be less
    than a twentieth (as Euclidean norms) of what it changes where the two are one sequence. A
    model that sees through changes 0.7 to 1.0 of it. One that does not changes nothing, or, where
    a mixture computes the tokens of a batch by expert, the last digits: 5e-7 of it.

    Args:
        model: whole, on the device that it will run on.
        lay_out: makes a batch of token ids and rows.

    Raises:
        ValueError: the second of two sequences depends on the first.
    """
    body = getattr(base_model(model), base_model(model).base_model_prefix)

    def hidden(rows: Rows, *ids: Seq[int]) -> Tensor:
        batch = lay_out([np.array(row, dtype=np.int32) for row in ids], rows)
        return batch.unpack(body(**model_inputs(batch)).last_hidden_state.float())

    firsts, second = ([1, 2, 3], [3, 1, 1]), [2, 1, 3]
    packed = [hidden([[0], [1, 2]], [1] * 6, first, second)[2, :3] for first in firsts]
    joined = [hidden([[0]], [*first, *second])[0, 3:] for first in firsts]
    if not (packed[0] - packed[1]).norm() < (joined[0] - joined[1]).norm() / 20:
        raise ValueError(
            f"learner.packing is True, but in {type(base_model(model)).__name__} a sequence sees"
            " the one before it in its row; the nearest valid value is False"
        )


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is wanted of a language model's forward beside one number a token (see `COLUMNS`)."""

    entropies: bool = False
    divergences: Callable[[Tensor], Tensor] | None = None
    """Logits [R, W', V] as `PackedBatch.ahead` has them, to divergences of the targets [R, W']."""
    temperature: float = 1.0
    """What a language model's logits are divided by; other heads have none."""


def predict_tokens(
    model: nn.Module, batch: PackedBatch, head: Head, wanted: Wanted = Wanted()
) -> Tensor:
    """One number a token: its logprob, or what the head says there (of a wider head, all that it
    says); with the columns that are wanted behind it.

    Args:
        model: may be the DeepSpeed engine.
        batch: n sequences, the longest of L tokens.
        head: what the model was loaded with.
        wanted: of a language model.

    Returns:
        float32 [n, L], [n, L, 1 + columns] or, of a head with more than one, [n, L, outputs]; what
        stands in the padding is finite and means nothing.
    """
    columns = _columns(model, batch, head, wanted)
    numbers = batch.unpack(columns[0] if len(columns) == 1 else torch.stack(columns, -1))
    if head.of_next:  # what stands before a sequence's first token is another sequence
        numbers = torch.cat([torch.zeros_like(numbers[:, :1]), numbers[:, 1:]], 1)
    return numbers


def _columns(model: nn.Module, batch: PackedBatch, head: Head, wanted: Wanted) -> list[Tensor]:
    """Of each [R, W]; without logits where these are not needed and the model can."""
    direct = find_vocabulary_head(model) if head.of_next and wanted.divergences is None else None
    if direct is not None:
        with direct.asked_for(batch, wanted.temperature, wanted.entropies):
            columns = list(model(**model_inputs(batch)).logits.unbind(-1))
        return [batch.in_place(column) for column in columns]
    logits = model(**model_inputs(batch)).logits
    if not head.of_next:
        return [head.read(logits, batch.token_ids)]
    logits, ids = batch.ahead(logits), batch.targets
    if wanted.entropies:
        columns = list(token_logprobs_and_entropies(logits, ids, wanted.temperature))
    else:
        columns = [token_logprobs(logits, ids, wanted.temperature)]
    if wanted.divergences is not None:
        columns.append(wanted.divergences(logits))
    return [batch.in_place(column) for column in columns]


@contextmanager
def head_inputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """Within it every forward appends what its scalar head was given, [N, L, d].

    Raises:
        ValueError: the model has no scalar head named 'score', as transformers' decoders have.
    """
    head = getattr(base_model(module), "score", None)
    if head is None:
        raise ValueError(f"{type(base_model(module)).__name__} has no head named 'score'")
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    try:
        yield seen
    finally:
        hook.remove()


def write_folder(
    module: nn.Module, weights: dict[str, Tensor], source: str, directory: str
) -> None:
    """A Hugging Face folder: config, safetensors under checkpoint names, the source's tokenizer."""
    base_model(module).save_pretrained(directory, state_dict=weights)
    read_tokenizer(source).save_pretrained(directory)
