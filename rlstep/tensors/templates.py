"""From a problem to the tokens that the policy continues."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rlstep.checks import at_least
from rlstep.interfaces import Tool

PROBLEM = "{problem}"
Worked: TypeAlias = tuple[str, str]
"""A problem and its solution, to be shown before another problem."""
_NOT_ARGUMENTS = frozenset(
    {"messages", "conversation", "tokenize", "add_generation_prompt", "tools"}
)
"""What a chat template is called with by us."""


@dataclass(frozen=True, kw_only=True)
class PromptTemplate:
    """What stands around a problem."""

    chat: bool = True
    """Use the tokenizer's chat template, where it has one."""
    system: str = ""
    """System prompt; without a chat template, a paragraph before the problem. A conversation that
    has a system message keeps its own."""
    text: str = PROBLEM
    """What the user says; '{problem}' stands for the problem. Not used for whole conversations."""
    suffix: str = ""
    """How the completion is made to begin, such as "Let's think step by step.\\nStep 1:". It comes
    right after the rest, is part of the prompt and is never trained."""
    arguments: Mapping[str, bool | int | float | str] = field(default_factory=dict, hash=False)
    """What the chat template is called with beside the messages: {"enable_thinking": False}. One
    that it does not read is refused."""
    shots: int = 0
    """So many solved training problems stand before each problem, in earlier turns or, without a
    chat template, in paragraphs of its text. For tasks that have solutions to show."""
    tools: tuple[Tool, ...] = ()
    """What the chat template is told can be called, in its own words. Of a tokenizer without a chat
    template, or one that knows no tools, `system` has to say it."""

    def __post_init__(self) -> None:
        at_least("template.shots", self.shots, 0)
        if self.text.count(PROBLEM) != 1:
            raise ValueError(f"template.text is {self.text!r}; it must hold {PROBLEM} exactly once")
        for name in _NOT_ARGUMENTS.intersection(self.arguments):
            raise ValueError(f"template.arguments has {name!r}, which is not free to choose")


class PromptEncoder:
    """A template with a tokenizer.

    Data is never control: where a problem contains a special token's text ('<|im_end|>'), it is
    encoded as plain text. Special tokens come from the chat template and the tokenizer alone.
    """

    def __init__(self, template: PromptTemplate, tokenizer: Any) -> None:
        """`tokenizer` is a fast Hugging Face tokenizer.

        Raises:
            ValueError: the chat template does not read one of the template's arguments, or knows no
                tools.
        """
        self._template = template
        self._tokenizer = tokenizer
        self.chats = template.chat and bool(tokenizer.chat_template)
        """Whether a chat template is used."""
        special = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
        longest_first = sorted(special, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._leading = leading_ids(tokenizer)
        if template.arguments:
            self._check_arguments()
        if template.tools and not (self.chats and "tools" in self._read_by_template()):
            raise ValueError(
                f"template.tools is {[tool.name for tool in template.tools]}, and there is no chat"
                " template that tells of tools; say in template.system how they are called"
            )

    def problem(self, problem: str, shots: Seq[Worked] = ()) -> list[int]:
        """Token ids of the prompt for one problem.

        Args:
            shots: `template.shots` many, in their order.

        Raises:
            ValueError: there are not as many; the chat template refuses or drops a message.
        """
        if len(shots) != self._template.shots:
            raise ValueError(
                f"template.shots is {self._template.shots}, and there are {len(shots)} solved"
                f" problems to show here; the nearest valid value is {len(shots)}"
            )
        asked = self._template.text.replace(PROBLEM, problem)
        if self.chats:
            turns = [(self._template.text.replace(PROBLEM, p), self._begun(s)) for p, s in shots]
            roles = ("user", "assistant")
            told = [
                {"role": role, "content": content}
                for turn in turns
                for role, content in zip(roles, turn, strict=True)
            ]
            return self._encoded([*told, {"role": "user", "content": asked}])
        told = [self._followed(self._template.text.replace(PROBLEM, p), s) for p, s in shots]
        return self._encoded([{"role": "user", "content": "\n\n".join([*told, asked])}])

    def _begun(self, solution: str) -> str:
        """A solution that begins as every completion is made to."""
        return _joined(self._template.suffix, solution)

    def _followed(self, asked: str, solution: str) -> str:
        """A problem and its solution in one text, as the policy is to continue one."""
        return _joined(asked + self._template.suffix, solution)

    def conversation(self, messages: Seq[Mapping[str, str]]) -> list[int]:
        """Token ids of the prompt for a conversation whose last message asks for an answer.

        Raises:
            ValueError: the chat template refuses the conversation, or drops its system prompt; or
                there should be shots, which have no place in it.
        """
        if self._template.shots:
            raise ValueError(
                f"template.shots is {self._template.shots}, and a conversation has no place for"
                " them; the nearest valid value is 0"
            )
        return self._encoded(messages)

    def _encoded(self, messages: Seq[Mapping[str, str]]) -> list[int]:
        if self._template.system and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self._template.system}, *messages]
        everything = "".join(m["content"] for m in messages) + self._template.suffix
        # A Unicode noncharacter stands in for special tokens in the data while the chat template,
        # whose own special tokens are meant, is put around them.
        mark = next(c for c in map(chr, range(0xFDD0, 0xFDF0)) if c not in everything)
        found: list[str] = []

        def stand_in(match: re.Match[str]) -> str:
            found.append(match.group())
            return f"{mark}{len(found) - 1}{mark}"

        shielded = [{**m, "content": self._special.sub(stand_in, m["content"])} for m in messages]
        suffix = self._special.sub(stand_in, self._template.suffix)
        rendered = self._rendered(shielded)
        _check_system(shielded, rendered)
        parts = re.split(f"{mark}([0-9]+){mark}", rendered + suffix)
        ids = [] if self.chats else list(self._leading)
        ids += self._tokenizer.encode(parts[0], add_special_tokens=False)
        for number, text in zip(parts[1::2], parts[2::2], strict=True):
            ids += continuation_ids(self._tokenizer, found[int(number)])
            ids += continuation_ids(self._tokenizer, text, special_tokens=True)
        return ids

    def decode(self, ids: list[int]) -> str:
        """What the ids of a prompt read, special tokens included."""
        return self._tokenizer.decode(ids, skip_special_tokens=False)

    def _rendered(self, messages: Seq[Mapping[str, str]]) -> str:
        if self.chats:
            from jinja2 import TemplateError

            try:
                return self._tokenizer.apply_chat_template(
                    list(messages),
                    tokenize=False,
                    add_generation_prompt=True,
                    tools=[tool.schema() for tool in self._template.tools] or None,
                    **self._template.arguments,
                )
            except TemplateError as error:
                roles = [message["role"] for message in messages]
                raise ValueError(
                    f"the tokenizer's chat template refuses a conversation of {roles}: {error};"
                    " what template.system says can stand in template.text"
                ) from error
        return "\n\n".join(m["content"] for m in messages)

    def _check_arguments(self) -> None:
        given = dict(self._template.arguments)
        if not self.chats:
            why = "the tokenizer has none" if self._template.chat else "template.chat is False"
            raise ValueError(f"template.arguments is {given}, for a chat template, and {why}")
        read = self._read_by_template()
        for name in given:
            if name not in read:
                near = difflib.get_close_matches(name, read, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"template.arguments has {name!r}, which the chat template does not read{hint}"
                )

    def _read_by_template(self) -> set[str]:
        """Names that stand in the chat template."""
        import jinja2

        tokens = jinja2.Environment().lex(self._tokenizer.get_chat_template())
        return {word for _, kind, word in tokens if kind == "name"}


def _joined(before: str, after: str) -> str:
    """With a space between two words."""
    return f"{before}{'' if not before or before[-1].isspace() else ' '}{after}"


def _check_system(messages: Seq[Mapping[str, str]], rendered: str) -> None:
    """Refuse a chat template that leaves a system prompt out, as some do without a word."""
    shown = " ".join(rendered.split())
    for message in messages:
        text = " ".join(message["content"].split())
        if message["role"] == "system" and text not in shown:
            raise ValueError(
                f"template.system (or a conversation's own) is {message['content'][:80]!r}, which"
                " the tokenizer's chat template leaves out; put it into template.text, before"
                f" {PROBLEM}"
            )


def continuation_ids(tokenizer: Any, text: str, *, special_tokens: bool = False) -> list[int]:
    """Token ids of a text that goes on after another one.

    SentencePiece tokenizers put a space before a text; behind a newline they do not, so the text is
    encoded behind one, which is then taken away. Where the newline merges with the text (byte-level
    BPE) there is no such space to avoid.

    Args:
        special_tokens: whether a special token's text stands for the token.
    """

    def encode(part: str) -> list[int]:
        return tokenizer.encode(
            part, add_special_tokens=False, split_special_tokens=not special_tokens
        )

    newline, ids = encode("\n"), encode("\n" + text)
    return ids[len(newline) :] if ids[: len(newline)] == newline else encode(text)


def leading_ids(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before a text by itself: a beginning-of-sequence token, or nothing.

    (What some put after it, an end-of-sequence token, would end the prompt.)
    """
    # A text that every tokenizer can encode: one of its own tokens.
    texts = (tokenizer.decode([i], skip_special_tokens=True) for i in range(len(tokenizer)))
    probe = next(text for text in texts if text.strip())
    bare, full = tokenizer.encode(probe, add_special_tokens=False), tokenizer.encode(probe)
    start = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    return full[:start]
