"""One step per sentence."""

from __future__ import annotations

from dataclasses import dataclass

from rlstep.steps.pattern import PatternSplitter

_PIECES = (  # none is taken apart again, so no sentence ends within one
    r"\$\$.{0,2000}?\$\$",
    r"\\\[.{0,2000}?\\\]",
    r"\\\(.{0,2000}?\\\)",
    r"\$(?!\s)(?:\\.|[^$\\]){1,2000}+(?<!\s)\$(?!\d)",
    r"\\.",
    r"(?m:^)[ \t]*\d+[.)]\s",  # the number of a list's item
    r".",
)
_ENDS = (
    r"[.!?]+[\"')\]*_]*(?:\s*\n|(?=\s))",  # tokenizers write a space with the word after it
    r"\n\s*\n",
    r"\Z",
)


@dataclass(frozen=True, kw_only=True)
class SentenceSplitter(PatternSplitter):
    r"""Steps are sentences: they end with . ! or ? before white space, or at a blank line.

    Newlines after it belong to a sentence, a space to the next one, as in most tokenizers' words.
    3.14 is not cut, and nothing inside $...$, $$...$$, \(...\) or \[...\] is (up to 2,000
    characters). A dollar sign opens mathematics only as in Pandoc: no space follows it, none stands
    before the closing one, and no digit follows that; so 'from $5 to $7' is text. The number of a
    list's item belongs to the item. Abbreviations end sentences.
    """

    pattern: str = f"(?s)(?>{'|'.join(_PIECES)})*?(?:{'|'.join(_ENDS)})"
