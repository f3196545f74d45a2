"""Keeps secrets out of everything a run writes.

Secrets come from the environment and are never part of a config; this is the second line of
defence, for the key that was put in a field, a URL or an argument all the same. A secret is known
by the name before it, by its issuer's prefix, by its place in a URL or a header, or since the
environment holds it. A password that nothing marks cannot be known.
"""

from __future__ import annotations

import os
import re

REDACTED = "<redacted>"

# The words before `token` and `key` that make a secret of it: eos_token and answer_key are none.
_OF_TOKEN = (
    r"auth|access|api|refresh|session|hub|hf|gh|github|gitlab|id|bot|user|oauth|deploy|personal"
    r"|security|client|service|app|bearer|slack|vault|wandb|csrf|xsrf"
)
_OF_KEY = (
    r"api|private|access|account|secret|encryption|signing|ssh|deploy|license|subscription|master"
    r"|shared|storage"
)
_SECRET_NAME = re.compile(
    rf"secret|passw(or)?d|passphrase|credential|bearer|authorization|connection_?string"
    rf"|({_OF_KEY})_?key|(^|({_OF_TOKEN})_?)token$|(^|_)(pwd|dsn|jwt|cookie|webhook)$"
    rf"|(^|(db|user|my|http)_?)pass$",
    re.IGNORECASE,
)
_SECRET_VARIABLE = re.compile(
    rf"{_SECRET_NAME.pattern}|_(auth|token|key|pwd|pass|dsn)$", re.IGNORECASE
)
_PATHS = {"PWD", "OLDPWD"}
_SHORTEST_ENVIRONMENT_SECRET = 6

# Nothing here looks ahead further than some hundred characters: texts are long, and not ours.
_ISSUED = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY( BLOCK)?-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY[A-Z -]*|$)"
    r"|(^[A-Za-z0-9+/=]{16,}\s*\n)+-----END [A-Z ]*PRIVATE KEY[A-Z -]*"  # its beginning is cut off
    r"|\beyJ[\w-]{8,4000}\.[\w-]{8,}\.[\w-]*|\beyJ[\w+/-]{60,}={0,2}"  # JSON web token; in base64
    # Names of models have words there; a key is one run of letters, or has figures.
    r"|\b(sk|pk|rk|ak|as|fw|xai|pplx|lin_api)[-_]((?=[\w-]{0,200}\d)[\w-]{16,}|[A-Za-z]{20,})"
    r"|\b(api_org|hf|gh[oprsu]|github_pat|npm|r8|gsk|tgp_v1|wandb_v1|rpa|pcsk|ntn|sbp|whsec|KGAT"
    r"|pscale_tkn|lsv2_(pt|sk)|dckr_(pat|oat)|glsa|glc|sntry[su]|shp(at|ca|pa|ss)|do[opr]_v1)"
    r"_((?=\w{0,200}\d)\w{16,}|[A-Za-z]{20,})"  # Hugging Face's are letters alone
    r"|\b(nvapi|gl[a-z]{2,4}|NRAK|GOCSPX)-(?=[\w-]{0,200}\d)[\w-]{10,}"
    r"|\b(xox[a-z]|xapp|pypi|hv[bsr]\.|dp\.[a-z]{2,4}\.)-?(?=[\w.-]{0,200}\d)[\w.-]{10,}"
    r"|\b(AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\bya29\.[\w-]{16,}|\b1//0[\w-]{20,}"
    r"|\b(SK|AC|dapi|key-)[0-9a-f]{32}\b|\bSG\.[\w-]{16,60}\.[\w-]{16,}"  # Twilio, SendGrid
    r"|\b\w{10,20}\.atlasv1\.[\w-]{20,}|\b\d{8,10}:AA[\w-]{30,}|\bAGE-SECRET-KEY-1[0-9A-Z]{20,}"
    r"|\bhooks\.slack\.com/\w+/[\w/-]+|\bdiscord(app)?\.com/api/webhooks/[\w/-]+",
    re.MULTILINE,
)
_HEXADECIMAL = re.compile(  # wandb's keys, Ray's tokens; but no hash that is called one
    r"(?P<ours>\b(sha-?1|sha-?256|\w{0,40}hash|digest|commit|revision|snapshots|blobs|tree)\b"
    r"[\\\"']{0,2}[\s:=/@]{1,3}[\\\"']{0,2})?\b([0-9a-f]{64}|[0-9a-f]{40})\b"
)

_IS = r"(?![\w-])\\?[\"']?\s*[=:]\s*b?\\?[\"']?"
"""Between a name and its value, in Python, JSON, JSON in JSON, YAML and a shell."""
_VALUE = r"(?P<value>(?<=\")[^\"\n]{3,}|(?<=')[^'\n]{3,}|(?<![\"'])[^\s\"'&,;)}\]]{4,})"
_RANDOM = r"(?=[^\s\"']{0,200}\d)(?=[^\s\"']{0,200}[A-Za-z])"
"""Letters and figures: 'token: 17' and 'key: prompt' are ordinary."""
_MARKED = [
    re.compile(expression, re.IGNORECASE)
    for expression in (
        # What stands before an @, from where a word begins on.
        r"(?P<before>(?<![a-z0-9+.-])[a-z0-9+.-]+://)(?P<value>[^\s/?#\"'<>]+)(?=@)",
        r"(?P<before>[?&]([\w-]{1,40}[_-])?(token|(api)?key|sig|signature|secret|passw(or)?d|pwd|auth"
        r"|credential|jwt|code)=)(?P<value>[^\s\"'&#<>]+)",
        # Headers, whose value has words.
        rf"(?P<before>\b(authorization|(set-)?cookie){_IS})(?P<value>[^\"'\n]{{4,}})",
        r"(?P<before>\b(bearer|basic)\s+)(?P<value>(?=\S{0,200}[\d=]|\S{20})[\w.~+/=-]{8,})",
        # --token X, and ['--token', 'X'].
        r"(?P<before>(?<![\w-])--?[\w-]{0,60}?(token|key|passw(or)?d|secret)([\"'],\s*[\"']|\s+[\"']?))"
        rf"(?P<value>(?<=[\"'])[^\"'\n]{{3,}}|(?<![\"']){_RANDOM}[^\s\"'-][^\s\"']{{3,}})",
        rf"(?P<before>(?<![\w-])[\w-]{{0,60}}?(secret|passw(or)?d|passphrase|credentials?|pwd"
        rf"|({_OF_KEY})[_-]?key|({_OF_TOKEN})[_-]?token|SharedAccessSignature){_IS}){_VALUE}",
        rf"(?P<before>(?<![\w-])(token|key|auth|sig|signature|jwt|private_key_id){_IS})"
        rf"{_RANDOM}(?P<value>[^\s\"'&,;)}}\]]{{16,}})",
        r"(?P<before>\blogin\s+\S+\s+password\s+)(?P<value>\S+)",  # .netrc
        r"(?P<before>\bcurl\b.{0,200}?\s(-u|--user)\s+[\"']?)(?P<value>[^\s\"':]+:[^\s\"']+)",
    )
]
_MARKED.append(  # as a shell or a .env has it
    re.compile(
        rf"(?P<before>(?<![\w-])[A-Z][A-Z0-9_]{{0,60}}?(TOKEN|_KEY|_AUTH|_PASS|PWD|_DSN){_IS}){_VALUE}"
    )
)
_ORDINARY = re.compile(r"none|null|true|false|\*+|<[\w|]+>?", re.IGNORECASE)
"""What can stand in a secret's place, and is none."""


def is_secret_name(name: str) -> bool:
    """Whether a field of this name is likely to hold a secret (`eos_token` is not)."""
    return _SECRET_NAME.search(name.replace("-", "_")) is not None


def redact(text: str) -> str:
    """The text without what looks like a secret, or is one in the environment."""
    for secret in _environment_secrets():
        text = text.replace(secret, REDACTED)
    for marked in _MARKED:
        text = marked.sub(_without_value, text)
    text = _ISSUED.sub(REDACTED, text)
    return _HEXADECIMAL.sub(lambda found: found[0] if found["ours"] else REDACTED, text)


def _without_value(found: re.Match[str]) -> str:
    return found[0] if _ORDINARY.fullmatch(found["value"]) else found["before"] + REDACTED


def _environment_secrets() -> list[str]:
    """Longest first, so that one secret inside another leaves no rest."""
    names = [name for name in os.environ if _SECRET_VARIABLE.search(name) and name not in _PATHS]
    values = {os.environ[name] for name in names}
    long = (value for value in values if len(value) >= _SHORTEST_ENVIRONMENT_SECRET)
    return sorted(long, key=len, reverse=True)
