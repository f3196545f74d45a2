"""What the layouts of PRMs share: one tag a step, and text that is never more than text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rlstep.interfaces import Reader, StepInputs
from rlstep.tensors.templates import continuation_ids
from rlstep.tensors.tokenizers import read_tokenizer
from rlstep.types import Failure, Rollout


def context_of(path: str) -> int:
    """Most tokens that a model reads."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    return config.get_text_config().max_position_embeddings


def bounded(read: Reader, most: int) -> Reader:
    """Refuses what is longer than `most` tokens: it is a Failure, and never cut."""

    def within(rollout: Rollout) -> StepInputs | Failure:
        inputs = read(rollout)
        if isinstance(inputs, Failure):
            return inputs
        assert len(inputs.read_at) == len(rollout.steps), "a layout reads every step out once"
        if (length := len(inputs.token_ids)) > most:
            return Failure(reason="too_long", detail=f"{length} tokens, the model reads {most}")
        return inputs

    return within


def shares_ids(policy: Any, model: Any) -> bool:
    """Whether every id of the policy's tokenizer means the same to the model's."""
    return policy.get_vocab().items() <= model.get_vocab().items()


def needs_vocabulary(name: str, policy: Any, path: str) -> None:
    """Refuse a model that would read the policy's ids as other tokens.

    Raises:
        ValueError: its tokenizer has other ids.
    """
    if not shares_ids(policy, read_tokenizer(path)):
        raise ValueError(
            f"{name}.learner.model.path is {path!r}, whose tokenizer has other ids than the"
            " policy's, and it reads the policy's tokens; a PRM can be given a layout, for instance"
            " StepTags()"
        )


def needs_same_ids(field: str, policy: Any, path: str) -> None:
    """Refuse a teacher that would read the policy's ids as other tokens.

    Raises:
        ValueError: names the field, and the first token that the two do not share.
    """
    teacher = read_tokenizer(path).get_vocab()
    own = sorted(policy.get_vocab().items(), key=lambda item: item[1])
    for token, number in own:
        if (there := teacher.get(token)) != number:
            other = "none of its tokens" if there is None else f"{there} in it"
            raise ValueError(
                f"{field} is {path!r}, whose tokenizer has other ids than the policy's: {token!r}"
                f" is {number} in the policy's and {other}; a teacher reads the policy's own"
                " tokens, so it must have the same tokenizer"
            )


def one_token(name: str, tokenizer: Any, text: str) -> int:
    """The one token that a text is where it goes on after another.

    Raises:
        ValueError: it is several; names the field, what it splits into, and a near text that is
            one.
    """
    ids = _ids(tokenizer, text, special_tokens=True)
    if len(ids) == 1:
        return ids[0]
    near = [
        other
        for other in (text.strip(), f" {text.strip()}")
        if other != text and len(_ids(tokenizer, other, special_tokens=True)) == 1
    ]
    hint = f"; the nearest valid value is {near[0]!r}" if near else ""
    raise ValueError(
        f"{name} is {text!r}, which the tokenizer splits into"
        f" {tokenizer.convert_ids_to_tokens(ids)}; it must be one token{hint}"
    )


@dataclass(frozen=True, kw_only=True)
class Tag:
    """The token behind each step, and how data that holds its text is written instead."""

    id: int
    spelled: tuple[int, ...]

    @classmethod
    def of(cls, name: str, tokenizer: Any, text: str) -> Tag:
        """Raises ValueError where the text is not one token, or cannot be written as several."""
        tag, at = one_token(name, tokenizer, text), len(text) - len(text.lstrip()) + 1
        spelled = [*_ids(tokenizer, text[:at]), *_ids(tokenizer, text[at:])]
        if tag in spelled:
            raise ValueError(
                f"{name} is {text!r}, which could not be told from the same text in a solution;"
                " choose a tag of two letters or more"
            )
        return cls(id=tag, spelled=tuple(spelled))

    def escape(self, ids: Iterable[int]) -> list[int]:
        """The ids of data, without the tag."""
        return [i for one in ids for i in (self.spelled if one == self.id else (int(one),))]

    def text(self, tokenizer: Any, text: str) -> list[int]:
        """Ids of data that goes on after other text; none is the tag or a special token."""
        return self.escape(_ids(tokenizer, text))


def _ids(tokenizer: Any, text: str, *, special_tokens: bool = False) -> list[int]:
    return continuation_ids(tokenizer, text, special_tokens=special_tokens) if text else []


def problem_text(rollout: Rollout) -> str:
    """The bare problem, where the task keeps it; else the prompt as the policy saw it."""
    return str(rollout.prompt.meta.get("problem", rollout.prompt.text))


def step_texts(rollout: Rollout) -> list[str]:
    """The text of every step behind what was observed before it; the first begins with what the
    template wrote of it."""
    observed = [rollout.observation_text(k) for k in range(-1, len(rollout.steps) - 1)]
    texts = [seen + rollout.step_text(k) for k, seen in enumerate(observed)]
    if texts:
        texts[0] = str(rollout.prompt.meta.get("suffix", "")) + texts[0]
    return texts


def numbered(number: int, text: str) -> str:
    """A step that says which one it is: 'Step 2: ...', with Markdown's marks or without."""
    if re.search(rf"^[ \t#*_>-]*step[ \t]*{number}\b", text, re.MULTILINE | re.IGNORECASE):
        return text
    return f"Step {number}: {text}"
