"""No secret in a field, a traceback, or what a process printed; no ordinary word taken for one."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import pytest

from rlstep.reporting.describe import describe_config
from rlstep.reporting.redact import REDACTED, is_secret_name, redact
from rlstep.reporting.role_logs import keeping_logs, last_lines
from tests.reporting.secret_shapes import BY_NAME, BY_SHAPE, FILLER, IN_PLACE, ORDINARY

PLACES = [(" ", ","), ("'", "'"), ("=", ";")]
WORDS = [f"{before}{secret}{after}" for secret in BY_SHAPE for before, after in PLACES]
TEXTS = [(text, FILLER if FILLER in text else text[1:-1]) for text in WORDS]
TEXTS += [(text.replace("{}", secret), secret) for text, secret in IN_PLACE]


def passed(redacted: list[str]) -> list[str]:
    """The texts in which a secret, or a part of one, is left; in their order."""
    assert len(redacted) == len(TEXTS)
    return [
        f"{text!r} is {found!r}"
        for found, (text, secret) in zip(redacted, TEXTS, strict=True)
        if secret in found or REDACTED not in found
    ]


def test_no_secret_is_left_in_a_field() -> None:
    told = describe_config({"notes": [text for text, _ in TEXTS]})
    assert passed(told["notes"]) == []


def test_no_secret_is_left_in_a_traceback() -> None:
    found = []
    for text, _ in TEXTS:
        try:
            raise ValueError(text)
        except ValueError as error:
            error.add_note(f"asked for {text}")
            found.append(redact("".join(traceback.format_exception(error))))
    assert passed(found) == []


def test_no_secret_is_left_of_what_a_role_printed(tmp_path: Path) -> None:
    found = []
    with keeping_logs(tmp_path):
        for text, _ in TEXTS:
            (tmp_path / "policy-0.log").write_text(f"a line\n{text}\nlast\n")
            found.append(last_lines("policy-0"))
    assert passed(found) == []
    assert all(lines.startswith("the end of ") and lines.endswith("  | last") for lines in found)


def test_what_is_left_of_a_key_whose_beginning_is_cut_off(tmp_path: Path) -> None:
    key = next(shape for shape in BY_SHAPE if "RSA" in shape)
    rest = key.split("\n", 2)[2]
    with keeping_logs(tmp_path):
        (tmp_path / "policy-0.log").write_text(f"{rest}\nlast\n")
        lines = last_lines("policy-0").split("\n")
    assert lines[1:] == [f"  | {REDACTED}", "  | last"]


@pytest.mark.parametrize("text", ORDINARY)
def test_an_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text
    assert redact(f"{text}\n{text}") == f"{text}\n{text}"


@pytest.mark.parametrize(("name", "secret"), BY_NAME)
def test_a_field_with_a_secrets_name_is_redacted(name: str, secret: str) -> None:
    assert is_secret_name(name)
    assert describe_config({name: secret}) == {name: REDACTED}
    inside = describe_config({name: {"user": secret, "port": 4711, "on": True, "no": None}})
    assert inside == {name: {"user": REDACTED, "port": REDACTED, "on": True, "no": None}}


@pytest.mark.parametrize(
    "name",
    [
        *("eos_token", "pad_token", "answer_key", "token_budget", "author", "key", "key_variable"),
        *("tokens", "pass_at", "bypass", "signature", "sort_key", "cookies_eaten", "step_token"),
    ],
)
def test_a_field_with_an_ordinary_name_stays(name: str) -> None:
    assert describe_config({name: "<|im_end|>", "more": {name: 3}}) == {
        name: "<|im_end|>",
        "more": {name: 3},
    }


def test_a_value_from_the_environment_is_redacted_wherever_it_stands(monkeypatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "plainword")
    monkeypatch.setenv("MY_SERVICE_KEY", "plainword-and-more")
    assert redact("x plainword-and-more plainword") == f"x {REDACTED} {REDACTED}"


def test_ordinary_variables_are_no_secrets(monkeypatch) -> None:
    for name in ("PWD", "OLDPWD", "HOME", "SSH_AUTH_SOCK", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "/data/somewhere")
    assert redact("/data/somewhere/model") == "/data/somewhere/model"


def test_only_the_secret_goes() -> None:
    assert redact("https://me:pw@host:1/x?a=b") == f"https://{REDACTED}@host:1/x?a=b"
    assert redact("GET /x?token=abc&page=2 HTTP") == f"GET /x?token={REDACTED}&page=2 HTTP"
    told = json.loads(redact(json.dumps({"password": "a b", "user": "me"})))
    assert told == {"password": REDACTED, "user": "me"}


@pytest.mark.parametrize("issuer", ["hf_", "sk-", "ghp_", "npm_", "gsk_"])
def test_a_key_of_letters_alone_is_one(issuer: str) -> None:
    """As Hugging Face's are; a model's name has words."""
    key = "abcdefghijklmnopqrstuvwxyzABCDEFGH"
    assert key not in redact(f"logged in with {issuer}{key}, done")
    assert redact(f"{issuer}internal-testing/tiny-random-model") == (
        f"{issuer}internal-testing/tiny-random-model"
    )
