"""Verifiers that say what they were handed. Processes of pools load this module, so no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlstep.interfaces import Verifier
from rlstep.types import OutcomeScore, Verdict


def correct(extracted: object) -> OutcomeScore:
    return OutcomeScore(value=1.0, verdict=Verdict.CORRECT, extracted=json.dumps(extracted))


@dataclass(frozen=True, kw_only=True)
class Plain(Verifier):
    def verify(self, text: str, answer: str) -> OutcomeScore:
        return correct([text, answer])


@dataclass(frozen=True, kw_only=True)
class WithRow(Verifier):
    def verify(self, text: str, answer: str, row: Mapping[str, Any]) -> OutcomeScore:
        return correct(row)


@dataclass(frozen=True, kw_only=True)
class WithReason(Verifier):
    def verify(self, text: str, answer: str, *, finish_reason: str = "stop") -> OutcomeScore:
        return correct(finish_reason)


@dataclass(frozen=True, kw_only=True)
class WithBoth(Verifier):
    def verify(
        self, text: str, answer: str, *, finish_reason: str, row: Mapping[str, Any], times: int = 1
    ) -> OutcomeScore:
        return correct([finish_reason, row["level"], times])


@dataclass(frozen=True, kw_only=True)
class Inherits(WithRow):
    pass
