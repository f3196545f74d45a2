"""Turns under the tokenizer's chat template, token by token."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rlstep.interfaces import Between, TurnFormat
from rlstep.tensors.templates import continuation_ids

_SAID, _SEEN = "\ufdd0", "\ufdd1"
"""Unicode noncharacters, which no template contains: what the policy said, what it saw."""
_PROBES = {
    "trims what the policy said": ("  said  ", "seen"),
    "drops or rewrites the thoughts of earlier turns": ("<think>\nidea\n</think>\n\nsaid", "seen"),
    "rewrites earlier turns": ("said", "seen"),
}


@dataclass(frozen=True, kw_only=True)
class ChatTurns(TurnFormat):
    """The observation as a message of the tokenizer's chat template, and the next turn's header.

    The next turn is sampled after exactly the tokens so far and those of the new message, so that
    what was sampled is never encoded again. A template that renders earlier turns otherwise than
    they were sampled (it trims them, or drops their thoughts) would train on another text than it
    would be served; that is found by rendering conversations of three turns. In a message a special
    token's text is text.
    """

    role: str = "user"
    """Whose message an observation is: 'user', or 'tool' where the template has it."""
    rewritten: Literal["refused", "kept"] = "refused"
    """What to do with a template that rewrites earlier turns: refuse it, or keep every turn as it
    was sampled, whatever the template would make of it."""
    arguments: Mapping[str, bool | int | float | str] = field(default_factory=dict, hash=False)
    """What the chat template is called with beside the messages, as in `PromptTemplate`."""

    def between(self, tokenizer: Any, stop_token_ids: Collection[int] = ()) -> Between:
        if not tokenizer.chat_template:
            raise ValueError(
                "rollouts.format is ChatTurns, and the tokenizer has no chat template; PlainTurns"
                " needs none"
            )
        closing, opening = self._delimiters(tokenizer)
        if self.rewritten == "refused":
            self._check(tokenizer, closing, opening)
        close = tokenizer.encode(closing, add_special_tokens=False)
        ends = {tokenizer.eos_token_id, *stop_token_ids}
        if close[0] not in ends:
            token = tokenizer.decode([close[0]], skip_special_tokens=False)
            raise ValueError(
                f"the chat template ends a turn with {token!r}, on which sampling does not stop;"
                f" set rollouts.sampling.stop_token_ids=({close[0]},)"
            )
        after = tokenizer.encode(opening, add_special_tokens=False)
        trims = self._rendered(tokenizer, [_SAID], [f" {_SEEN} "]).count(f" {_SEEN} ") == 0

        def ids(text: str, last: int) -> list[int]:
            seen = continuation_ids(tokenizer, text.strip() if trims else text)
            return [*(close[1:] if last == close[0] else close), *seen, *after]

        return ids

    def _delimiters(self, tokenizer: Any) -> tuple[str, str]:
        """What stands between a turn and an observation, and from there to the next turn."""
        rendered = self._rendered(tokenizer, [_SAID], [_SEEN])
        match = re.fullmatch(f".*{_SAID}(.+){_SEEN}(.*)", rendered, re.DOTALL)
        if match is None:
            raise ValueError(
                "the tokenizer's chat template shows a turn of the policy or the"
                f" {self.role!r} message after it more than once, or not at all"
            )
        return match[1], match[2]

    def _rendered(self, tokenizer: Any, said: list[str], seen: list[str]) -> str:
        from jinja2 import TemplateError

        messages = [{"role": "user", "content": "question"}]
        for turn, observation in zip(said, seen, strict=True):
            messages.append({"role": "assistant", "content": turn})
            messages.append({"role": self.role, "content": observation})
        try:
            return tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, **self.arguments
            )
        except TemplateError as error:
            raise ValueError(
                "the tokenizer's chat template refuses a conversation of"
                f" {[message['role'] for message in messages]}: {error}"
            ) from error

    def _check(self, tokenizer: Any, closing: str, opening: str) -> None:
        prompt = self._rendered(tokenizer, [], [])
        for fault, (said, seen) in _PROBES.items():
            for turns in range(1, 4):
                rendered = self._rendered(tokenizer, [said] * turns, [seen] * turns)
                if rendered != prompt + f"{said}{closing}{seen}{opening}" * turns:
                    raise ValueError(
                        f"the tokenizer's chat template {fault}, so a conversation is not the"
                        " tokens that were sampled; set rewritten='kept' to keep every turn as it"
                        " was sampled"
                    )
