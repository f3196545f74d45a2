"""What made-up tasks share: a tokenizer of their own, and worked solutions to train on."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any

import numpy as np

from rlstep.interfaces import PromptSet, Tokenizer
from rlstep.types import LabelSamples, Prompt, Sequence


def fitting(train: Seq[Prompt], evaluation: Seq[Prompt], max_prompt_tokens: int) -> PromptSet:
    """Those of at most so many tokens; the others are counted as 'too_long'."""
    lengths = [len(p.token_ids) for p in (*train, *evaluation)]
    too_long = [length for length in lengths if length > max_prompt_tokens]
    return PromptSet(
        train=[p for p in train if len(p.token_ids) <= max_prompt_tokens],
        evaluation=[p for p in evaluation if len(p.token_ids) <= max_prompt_tokens],
        dropped={"too_long": len(too_long)} if too_long else {},
        too_long=too_long,
    )


def closed_tokenizer(tokens: Seq[str], pattern: str, longest: int = 256) -> Any:
    r"""A transformers PreTrainedTokenizerFast with exactly these tokens.

    `<pad>` is 0, `<eos>` 1, and the tokens follow in their order. What is no token raises: nothing
    that a task of a closed language says is unknown.

    Args:
        pattern: a regular expression whose matches are the tokens of a text; what it does not
            match is looked up as it stands. r"[\s\S]" makes every character a token.
        longest: tokens of the longest text that the policy is made for.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", *tokens])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    words.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="<eos>",
        clean_up_tokenization_spaces=False,
        model_max_length=longest,
    )


def solution_samples(
    prompts: Seq[Prompt], solutions: Seq[Seq[str]], tokenizer: Tokenizer
) -> LabelSamples:
    """One worked solution per problem, as plain next-token targets.

    Every completion token is trained, the end-of-sequence token included, with target and weight
    1. Each step is encoded by itself, so that no token straddles two.

    Args:
        solutions: for every prompt the texts of its steps.
    """
    sequences = tuple(
        _sequence(f"{i}/{prompt.prompt_id}", prompt, steps, tokenizer)
        for i, (prompt, steps) in enumerate(zip(prompts, solutions, strict=True))
    )
    ones = tuple(s.loss_mask.astype(np.float32) for s in sequences)
    return LabelSamples(sequences=sequences, targets=ones, weights=ones)


def _sequence(sequence_id: str, prompt: Prompt, steps: Seq[str], tokenizer: Tokenizer) -> Sequence:
    assert tokenizer.eos_token_id is not None, "the tokenizer has no end-of-sequence token"
    encoded = [tokenizer.encode(step, add_special_tokens=False) for step in steps]
    encoded[-1] = [*encoded[-1], tokenizer.eos_token_id]
    token_ids = np.concatenate([prompt.token_ids, *encoded]).astype(np.int32)
    index = np.repeat(np.arange(-1, len(steps)), [len(prompt.token_ids), *map(len, encoded)])
    return Sequence(
        sequence_id=sequence_id,
        prompt_id=prompt.prompt_id,
        token_ids=token_ids,
        loss_mask=index >= 0,
        step_index=index.astype(np.int32),
        rollout_logprobs=np.zeros(len(token_ids), np.float32),
        step_scores=np.zeros(len(steps), np.float32),
        oldest_version=0,
    )


def conversation_samples(
    prompts: Seq[Prompt], conversations: Seq[Seq[tuple[str, str]]], tokenizer: Tokenizer
) -> LabelSamples:
    """One conversation per problem: turns are next-token targets with weight 1, what is observed
    after them is read and not trained.

    Args:
        conversations: for every prompt its turns, each with what is observed after it, delimiters
            included; '' after the last one. Each text is encoded by itself; a turn's text names the
            special token that ends it, if one does.
    """
    sequences = tuple(
        _conversation(f"{i}/{prompt.prompt_id}", prompt, turns, tokenizer)
        for i, (prompt, turns) in enumerate(zip(prompts, conversations, strict=True))
    )
    ones = tuple(s.loss_mask.astype(np.float32) for s in sequences)
    return LabelSamples(sequences=sequences, targets=ones, weights=ones)


def _conversation(
    name: str, prompt: Prompt, turns: Seq[tuple[str, str]], tokenizer: Tokenizer
) -> Sequence:
    ids, index = prompt.token_ids.tolist(), [-1] * len(prompt.token_ids)
    for turn, texts in enumerate(turns):
        for text, step in zip(texts, (turn, -1), strict=True):
            encoded = tokenizer.encode(text, add_special_tokens=False)
            ids, index = ids + encoded, index + [step] * len(encoded)
    steps = np.array(index, np.int32)
    return Sequence(
        sequence_id=name,
        prompt_id=prompt.prompt_id,
        token_ids=np.array(ids, np.int32),
        loss_mask=steps >= 0,
        step_index=steps,
        rollout_logprobs=np.zeros(len(ids), np.float32),
        step_scores=np.zeros(len(turns), np.float32),
        oldest_version=0,
    )
