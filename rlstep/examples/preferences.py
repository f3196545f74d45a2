"""Preferences between two answers, in the columns and layouts that are in use."""

from __future__ import annotations

import re
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar, TypeAlias

import numpy as np

from rlstep.checks import named
from rlstep.examples.from_rows import FromRows, LeftOut
from rlstep.pairs.assemble import Candidate, assemble
from rlstep.tasks.read_rows import read_rows
from rlstep.tasks.rows import Row, problem_id, shown
from rlstep.tasks.step_pairs import offline_sequence
from rlstep.tensors.templates import PROBLEM, PromptEncoder, PromptTemplate, continuation_ids
from rlstep.types import PairSamples, TokenIds

Messages: TypeAlias = list[dict[str, str]]

_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True, kw_only=True)
class _Preference:
    """Two answers to one prompt, as token ids."""

    prompt_id: str
    prompt: TokenIds
    chosen: TokenIds
    rejected: TokenIds
    scores: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class _Sides:
    """Two answers as they stand in a row."""

    prompt: str | Messages
    chosen: str
    rejected: str


@dataclass(frozen=True, kw_only=True)
class Preferences(FromRows[_Preference, PairSamples]):
    r"""Pairs of answers to a prompt: the whole answers are trained, their end included.

    A row is read by what it holds:

    - texts, with a prompt, which is a problem for the template or a list of messages;
    - lists of messages (`role`, `content`), for a tokenizer with a chat template. A side that
      begins with an answer goes on from the prompt. One that begins otherwise is a whole
      conversation: what both have in common is the prompt, and one answer follows it;
    - texts without a prompt as in HH-RLHF (Bai et al. 2022, arXiv:2204.05862): '\n\nHuman: ' and
      '\n\nAssistant: ' before each turn. The last turn is the answer, what stands before it the
      prompt. It is read as messages where the tokenizer has a chat template, else as it stands.

    Left out and counted: pairs of equal sides, and sides that do not both answer the same prompt
    (HH-RLHF has conversations that end with an empty turn).
    """

    makes: ClassVar[type] = PairSamples

    prompt: str = "prompt"
    """The column of the prompts; one that a row lacks is no error where the sides hold the
    prompt."""
    chosen: str = "chosen"
    """The column of the better answers."""
    rejected: str = "rejected"
    """The column of the worse answers."""
    chosen_score: str = ""
    """The column of the better answers' scores, or of the margins; '' is 1 for all."""
    rejected_score: str = ""
    """The column of the worse answers' scores; '' is 0 for all."""
    template: PromptTemplate = PromptTemplate()
    """What stands around a prompt that is a text."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("prompt", "chosen", "rejected"):
            named(f"examples.{name}", getattr(self, name), "column")

    def items(self, path: str, tokenizer: Any, left_out: LeftOut) -> list[_Preference]:
        encoder, found = PromptEncoder(self.template, tokenizer), []
        for row in read_rows(path):
            sides = self._sides(row, encoder)
            if sides is None:
                left_out.add(row, "its sides do not both answer the same prompt")
                continue
            if sides.chosen == sides.rejected:
                left_out.add(row, "its sides are equal")
                continue
            found.append(self._encoded(row, sides, encoder, tokenizer))
        return found

    def samples(self, items: Seq[_Preference], tokenizer: Any) -> PairSamples:
        groups: dict[str, list[Candidate]] = {}
        for item in items:
            chosen, rejected = (
                offline_sequence(item.prompt_id, item.prompt.tolist(), side.tolist())
                for side in (item.chosen, item.rejected)
            )
            candidate = Candidate(
                chosen=chosen,
                rejected=rejected,
                chosen_score=item.scores[0],
                rejected_score=item.scores[1],
            )
            groups.setdefault(item.prompt_id, []).append(candidate)
        return assemble(list(groups.values()), "offline")

    def _encoded(
        self, row: Row, sides: _Sides, encoder: PromptEncoder, tokenizer: Any
    ) -> _Preference:
        if isinstance(sides.prompt, str):
            prompt, prompt_id = encoder.problem(sides.prompt), problem_id(sides.prompt)
        else:
            try:
                prompt = encoder.conversation(sides.prompt)
            except ValueError as error:  # the chat template's, of which turns may follow which
                raise row.error(self.chosen, str(error)) from error
            said = [m[key] for m in sides.prompt for key in ("role", "content")]
            prompt_id = problem_id(*said)
        ids = []
        for column, text in ((self.chosen, sides.chosen), (self.rejected, sides.rejected)):
            ids.append([*continuation_ids(tokenizer, text), tokenizer.eos_token_id])
            self.check_length(row, column, len(prompt) + len(ids[-1]))
        return _Preference(
            prompt_id=prompt_id,
            prompt=np.array(prompt, np.int32),
            chosen=np.array(ids[0], np.int32),
            rejected=np.array(ids[1], np.int32),
            scores=self._scores(row),
        )

    def _scores(self, row: Row) -> tuple[float, float]:
        chosen, rejected = (
            _number(row, column) if column else default
            for column, default in ((self.chosen_score, 1.0), (self.rejected_score, 0.0))
        )
        if chosen < rejected:
            column = self.chosen_score or self.rejected_score
            raise row.error(column, f"scores the chosen side {chosen}, the rejected {rejected}")
        return chosen, rejected

    # --- layouts ----------------------------------------------------------------------------------

    def _sides(self, row: Row, encoder: PromptEncoder) -> _Sides | None:
        """None where the two are no answers to one prompt."""
        values = [row.value(column) for column in (self.chosen, self.rejected)]
        if any(isinstance(value, list) for value in values):
            return self._of_messages(row, encoder)
        prompt = row.value(self.prompt) if self._has_prompt(row) else None
        if prompt is None:
            return self._of_turns(row, encoder)
        if isinstance(prompt, list):
            self._needs_chat(row, self.prompt, encoder)
            prompt = _messages(row, self.prompt)
        else:
            prompt = row.text(self.prompt)
        return _Sides(prompt=prompt, chosen=row.text(self.chosen), rejected=row.text(self.rejected))

    def _of_messages(self, row: Row, encoder: PromptEncoder) -> _Sides | None:
        self._needs_chat(row, self.chosen, encoder)
        chosen, rejected = (_messages(row, column) for column in (self.chosen, self.rejected))
        if "assistant" in (chosen[0]["role"], rejected[0]["role"]):
            prompt = self._prompt_messages(row)
            chosen, rejected = [*prompt, *chosen], [*prompt, *rejected]
        return _split(chosen, rejected)

    def _prompt_messages(self, row: Row) -> Messages:
        """The prompt before answers that are messages."""
        if isinstance(row.value(self.prompt), list):
            return _messages(row, self.prompt)
        text = self.template.text.replace(PROBLEM, row.text(self.prompt))
        return [{"role": "user", "content": text}]

    def _of_turns(self, row: Row, encoder: PromptEncoder) -> _Sides | None:
        chosen, rejected = (_turns(row, column) for column in (self.chosen, self.rejected))
        sides = _split(chosen, rejected)
        if sides is None or encoder.chats:
            return sides
        # As it stands, the space behind 'Assistant:' being the answer's.
        start = len(row.text(self.chosen)) - len(chosen[-1]["text"])
        whole = row.text(self.chosen)[:start]
        return _Sides(
            prompt=[{"role": "user", "content": whole}],
            chosen=chosen[-1]["text"],
            rejected=rejected[-1]["text"],
        )

    def _has_prompt(self, row: Row) -> bool:
        return self.prompt.partition(".")[0] in row.values

    def _needs_chat(self, row: Row, column: str, encoder: PromptEncoder) -> None:
        if not encoder.chats:
            raise row.error(column, "a conversation needs a tokenizer with a chat template")


def _split(chosen: Messages, rejected: Messages) -> _Sides | None:
    """The messages that both begin with, and the one answer that each goes on with; None where
    there is no prompt or another number of messages."""
    prompt = chosen[:-1]
    alike = [(m["role"], m["content"]) for m in prompt] == [
        (m["role"], m["content"]) for m in rejected[:-1]
    ]
    answers = all(m["role"] == "assistant" and m["content"] for m in (chosen[-1], rejected[-1]))
    if not prompt or not alike or not answers:
        return None
    asked = [{"role": m["role"], "content": m["content"]} for m in prompt]
    return _Sides(prompt=asked, chosen=chosen[-1]["content"], rejected=rejected[-1]["content"])


def _messages(row: Row, column: str) -> Messages:
    """A list of messages with a role and a text."""
    found = row.value(column)
    if not isinstance(found, list) or not found:
        raise row.error(column, f"{shown(found)} is no list of messages")
    return [
        {name: row.text(f"{column}.{k}.{name}") for name in ("role", "content")}
        for k in range(len(found))
    ]


def _turns(row: Row, column: str) -> Messages:
    """Of HH-RLHF's layout, with each turn's text as it stands beside its content."""
    text = row.text(column)
    starts = list(_TURN.finditer(text))
    if not starts or text[: starts[0].start()].strip():
        raise row.error(
            column,
            f"{shown(text)} has no prompt beside it; without one it begins with '\\n\\nHuman: '",
        )
    stops = [*(turn.start() for turn in starts[1:]), len(text)]
    return [
        {"role": _ROLES[turn[1]], "content": said.strip(), "text": said}
        for turn, stop in zip(starts, stops, strict=True)
        for said in [text[turn.end() : stop]]
    ]


def _number(row: Row, column: str) -> float:
    found = row.value(column)
    if isinstance(found, bool) or not isinstance(found, int | float) or not isfinite(found):
        raise row.error(column, f"{shown(found)} is no finite number")
    return float(found)
