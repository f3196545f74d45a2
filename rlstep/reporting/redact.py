"""Keeps secrets out of everything a run writes.

Secrets come from the environment and are never part of a config; this is the second line of
defence, for the key that was put in a field, a URL or an argument all the same.
"""

from __future__ import annotations

import os
import re

REDACTED = "<redacted>"

_SECRET_NAME = re.compile(
    r"api_?key|secret|passw(or)?d|passphrase|credential|private_?key|access_?key|bearer"
    r"|authorization|(^|auth_?|access_?|api_?|refresh_?|session_?|hub_?|hf_?|gh_?)token$",
    re.IGNORECASE,
)
_SECRET_VARIABLE = re.compile(rf"{_SECRET_NAME.pattern}|_(auth|token|key|pwd|dsn)$", re.IGNORECASE)
_SECRET_SHAPES = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"  # JSON web token
    r"|\b(sk|pk|rk)[-_][\w-]{16,}"  # OpenAI, Anthropic, Stripe
    r"|\b(hf|ghp|gho|ghu|ghs|ghr|github_pat|npm|nvapi|wandb_v1|r8|gsk)[-_][\w-]{16,}"
    r"|\b(glpat|xox[abeprs]|dop_v1|pypi)[-_][\w-]{10,}"
    r"|\b(AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\bya29\.[\w-]{16,}"
    r"|\b[0-9a-f]{40}\b|\b[0-9a-f]{64}\b"  # wandb keys, Ray tokens
)
_NAMED_IN_TEXT = re.compile(
    r"(?P<name>(?<![\w-])[\w-]*(api[_-]?key|secret|passw(or)?d|(\b|auth[_-]?)token|access[_-]?key)\b)"
    r"(?P<between>[\"']?\s*[=:]\s*[\"']?)(?P<value>[^\s\"'&,;]{4,})",
    re.IGNORECASE,
)
_CREDENTIALS = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
# Both start where a word does: from every character on, a long word would take its square.
_USER_INFO = re.compile(r"(?P<scheme>(?<![a-z0-9+.-])[a-z0-9+.-]+://)[^\s/@]+@", re.IGNORECASE)
_SHORTEST_ENVIRONMENT_SECRET = 6


def is_secret_name(name: str) -> bool:
    """Whether a field of this name is likely to hold a secret (`eos_token` is not)."""
    return _SECRET_NAME.search(name.replace("-", "_")) is not None


def redact(text: str) -> str:
    """The text without what looks like a secret, or is one in the environment."""
    for secret in _environment_secrets():
        text = text.replace(secret, REDACTED)
    text = _USER_INFO.sub(rf"\g<scheme>{REDACTED}@", text)
    text = _CREDENTIALS.sub(REDACTED, text)
    text = _SECRET_SHAPES.sub(REDACTED, text)
    return _NAMED_IN_TEXT.sub(rf"\g<name>\g<between>{REDACTED}", text)


def _environment_secrets() -> list[str]:
    """Longest first, so that one secret inside another leaves no rest."""
    values = {value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name)}
    long = (value for value in values if len(value) >= _SHORTEST_ENVIRONMENT_SECRET)
    return sorted(long, key=len, reverse=True)
