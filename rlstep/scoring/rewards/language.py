"""A reward for writing in the language that was asked for."""

from __future__ import annotations

import difflib
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from rlstep.checks import named
from rlstep.scoring.rewards.each_rollout import EachRollout
from rlstep.thoughts import ThoughtTags
from rlstep.types import Rollout, RolloutScore

SCRIPTS = tuple(
    "ARABIC ARMENIAN BENGALI BOPOMOFO CJK CYRILLIC DEVANAGARI ETHIOPIC GEORGIAN GREEK GUJARATI"
    " GURMUKHI HANGUL HEBREW HIRAGANA KANNADA KATAKANA KHMER LAO LATIN MALAYALAM MONGOLIAN MYANMAR"
    " ORIYA SINHALA TAMIL TELUGU THAI TIBETAN".split()
)
"""First words of the Unicode names of letters."""

_COMMAND = re.compile(r"\\[a-zA-Z]+")
_UNITS = re.compile("[\N{MICRO SIGN}\N{OHM SIGN}]")  # NFKC would make them Greek letters
_SHARED = ("KATAKANA-HIRAGANA", "IDEOGRAPHIC", "VERTICAL", "MODIFIER")
"""First words of the names of letters that no script has for itself, as ー, 々 and 〱."""


@dataclass(frozen=True, kw_only=True)
class Language(EachRollout):
    """The share of a completion's letters that are of the wanted scripts.

    The language consistency reward of DeepSeek-R1 (arXiv:2501.12948, section 2.3.2) counted by
    letters instead of words: a script is known for certain, and mixing shows. In [0, 1]; a
    completion without letters mixes nothing and has 1. Digits, signs and LaTeX commands are no
    letters, and wide or mathematical forms of a letter count as the letter (NFKC). Marks that
    scripts share (the long vowel of kana, 々, modifier letters) and the micro and ohm signs count
    as no letters; Greek letters do count, in formulas as well.
    """

    scripts: tuple[str, ...] = ("LATIN",)
    """First words of letters' Unicode names; Japanese is ('CJK', 'HIRAGANA', 'KATAKANA')."""
    source: str = "language"
    """The name that its scores have."""
    thoughts: ThoughtTags = ThoughtTags()
    """Tags are no letters; what stands between them counts as any text."""

    def __post_init__(self) -> None:
        named("language.source", self.source)
        if not self.scripts:
            raise ValueError("language.scripts is empty; name at least one, for instance 'LATIN'")
        for script in self.scripts:
            if script not in SCRIPTS:
                near = difflib.get_close_matches(script.upper(), SCRIPTS, 1, 0.0)[0]
                raise ValueError(
                    f"language.scripts has {script!r}, the nearest is {near!r}; there are"
                    f" {', '.join(SCRIPTS)}"
                )

    def score(self, rollout: Rollout) -> RolloutScore:
        text = self.thoughts.blanked(rollout.completion.text)
        text = _UNITS.sub(" ", _COMMAND.sub(" ", text))
        text = unicodedata.normalize("NFKC", text)
        scripts = [_script(character) for character in text if character.isalpha()]
        letters = [script for script in scripts if script not in _SHARED]
        wanted = sum(script in self.scripts for script in letters)
        value = wanted / len(letters) if letters else 1.0
        return RolloutScore(value=value, detail=f"{wanted} of {len(letters)} letters")


@lru_cache(maxsize=1 << 16)
def _script(letter: str) -> str:
    """The first word of a letter's name, '' where it has none."""
    return unicodedata.name(letter, "").partition(" ")[0]
