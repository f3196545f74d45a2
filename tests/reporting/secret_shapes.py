"""Made-up secrets in the shapes that real ones have, put together as the tests run: no file holds
one, and none of them opens anything."""

from __future__ import annotations

from random import Random
from string import ascii_lowercase, ascii_uppercase, digits

_random = Random(7)


def drawn(alphabet: str, number: int) -> str:
    """So many characters, one of them a figure where there are figures."""
    letters = _random.choices(alphabet, k=number)
    if "7" in alphabet:
        letters[number // 2] = "7"
    return "".join(letters)


WORDS = ascii_lowercase + ascii_uppercase + digits
HEXADECIMAL = digits + "abcdef"
FILLER = drawn(WORDS, 32)
"""Part of every secret below that has a long random part."""
_KEY = "PRIVATE" + " KEY"

BY_NAME = [
    (name, f"named-{drawn(WORDS, 6)}")
    for name in (
        *("api_key", "apikey", "WANDB_API_KEY", "hf_token", "token", "access_token", "auth_token"),
        *("password", "db_passwd", "client_secret", "private_key", "aws_secret_access_key"),
        *("credentials", "Authorization", "api-key", "apiKey", "accessToken", "clientSecret"),
        *(
            "session_token",
            "bot_token",
            "refresh-token",
            "id_token",
            "pwd",
            "db_pass",
            "passphrase",
        ),
        *("encryption_key", "signing_key", "account_key", "jwt", "dsn", "cookie", "slack_webhook"),
        *("connection_string", "connectionString", "ssh_key", "MYSQL_PWD", "SENTRY_DSN", "db_pass"),
    )
]


def _pem(kind: str) -> str:
    body = "\n".join([FILLER * 2] * 3)
    return f"-----BEGIN {kind}-----\n{body}\n-----END {kind}-----"


BY_SHAPE = [
    *(f"{before}{FILLER}" for before in ("sk-", "sk-proj-", "sk-ant-api03-", "sk-or-v1-", "xai-")),
    *(f"{kind}_{mode}_{FILLER}" for kind in ("sk", "pk", "rk") for mode in ("live", "test")),
    *(f"{before}_{FILLER}" for before in ("hf", "api_org", "gsk", "r8", "tgp_v1", "wandb_v1")),
    *(f"{before}_{FILLER}" for before in ("ghp", "gho", "ghu", "ghs", "ghr", "github_pat", "npm")),
    *(f"{before}_{FILLER}" for before in ("dckr_pat", "lsv2_pt", "pcsk", "rpa", "sbp", "ntn")),
    *(f"{before}_{FILLER}" for before in ("glsa", "sntrys", "shpat", "dop_v1", "whsec", "KGAT")),
    *(f"{before}-{FILLER}" for before in ("glpat", "gldt", "glrt", "nvapi", "NRAK", "GOCSPX")),
    *(f"{before}-{FILLER}" for before in ("pplx", "fw", "ak", "as", "pypi")),
    *(f"xox{kind}-{drawn(digits, 10)}-{FILLER}" for kind in "bpares"),
    f"xapp-1-{FILLER}",
    "AKIA" + drawn(ascii_uppercase, 16),
    "ASIA" + drawn(ascii_uppercase, 16),
    f"AIza{FILLER}",
    f"ya29.{FILLER}",
    f"1//0{FILLER}",
    drawn(HEXADECIMAL, 40),  # wandb, Cohere
    drawn(HEXADECIMAL, 64),  # Ray, Together
    f"local-{drawn(HEXADECIMAL, 40)}",
    *(before + drawn(HEXADECIMAL, 32) for before in ("SK", "AC", "dapi", "key-")),
    f"SG.{drawn(WORDS, 22)}.{FILLER}",
    f"hvs.{FILLER}",
    f"dp.pt.{FILLER}",
    f"{drawn(WORDS, 14)}.atlasv1.{FILLER}",
    f"{drawn(digits, 9)}:AA{FILLER}",
    "AGE-SECRET-KEY-1" + drawn(ascii_uppercase, 58),
    f"eyJhbGciOi{FILLER}.eyJzdWIi{FILLER}.{FILLER}",
    f"eyJhcGlf{FILLER * 3}==",  # neptune's
    *(_pem(f"{kind}{_KEY}") for kind in ("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED ")),
    _pem(f"PGP {_KEY} BLOCK"),
    f"https://hooks.slack.com/services/T{FILLER}/B{FILLER}/{FILLER}",
    f"https://discord.com/api/webhooks/{drawn(digits, 18)}/{FILLER}",
]
"""Each is redacted wherever it stands."""

_PASSWORD = drawn(ascii_lowercase, 9)
"""As people choose them: nothing but its place says what it is."""

IN_PLACE = [
    *(f"{scheme}://someone:{{}}@host.example:5432/path" for scheme in ("https", "postgresql")),
    *(f"{scheme}://:{{}}@host:1" for scheme in ("redis", "amqp", "mongodb+srv")),
    "https://{}@github.com/owner/name.git",
    "https://someone:before@{}@host.example/",  # an @ in the password
    *(f"https://host.example/?a=b&{name}={{}}&c=d" for name in ("token", "key", "api_key", "sig")),
    "https://host.example/back?code={}",
    *(f"https://host.example/?{name}={{}}" for name in ("access_token", "X-Amz-Signature")),
    *(
        f"Authorization: {kind} {{}}"
        for kind in ("Bearer", "Basic", "token", "ApiKey", "Digest u=")
    ),
    "{'authorization': 'Bearer {}', 'accept': '*/*'}",
    *(f"X-{name}: {{}}" for name in ("Api-Key", "Auth-Token", "GitHub-Token")),
    "Set-Cookie: session={}; HttpOnly",
    *(f"export {name}={{}}" for name in ("HF_TOKEN", "WANDB_API_KEY", "PGPASSWORD", "A_KEY")),
    *(f'{name}="{{}}"' for name in ("MYSQL_PWD", "SENTRY_DSN", "REDIS_AUTH", "SMTP_PASS")),
    *(f"{name}: {{}}" for name in ("password", "client_secret", "aws_secret_access_key")),
    *(f'{{"{name}": "{{}}"}}' for name in ("password", "apiKey", "refresh_token", "passphrase")),
    r"{\"password\": \"{}\", \"user\": 1}",
    *(f"Client({name}='{{}}', retries=3)" for name in ("api_key", "token_secret", "bot_token")),
    "Client(password=b'{}')",
    "DefaultEndpointsProtocol=https;AccountName=a;AccountKey={};EndpointSuffix=b",
    "Server=tcp:host;User ID=me;Password={};Encrypt=True",
    "password = 'two words of it: {}'",
    "machine api.example login user password {}",
    "curl -sS -u someone:{} https://host.example",
    "['train', '--hub-token', '{}', '--name', 'first']",
    "--password '{}' --name first",
]
"""Texts with a place for what only its place says."""
IN_PLACE = [(text, _PASSWORD) for text in IN_PLACE] + [
    (text, drawn(WORDS, 20))
    for text in (
        *("token={}", "auth: {}", "'token': '{}'", "use Bearer {} here", "Basic {}"),
        *("--api-key {} --name first", "--token {}"),
        '{"username": "me", "key": "{}"}',
        '{"auths": {"host": {"auth": "{}"}}}',
    )
]

ORDINARY = [
    *("Qwen/Qwen2.5-0.5B-Instruct", "models/risk-averse_policy", "<extra_0>", "\n\n", "a@b.c"),
    *("hf-internal-testing/tiny-random-LlamaForCausalLM", "sk-learn-contrib-and-others"),
    *("npm-package-lock-of-it", "gpt-oss-120b", "google-bert/bert-base-uncased", "pk_of_the_table"),
    *("1.234567890123e-05", "12345678901234567890", "0.1, 0.2, 1e-08", "[151643, 151645, 220]"),
    *("token 17 of 64", "token: 151643", "unexpected token: w5", "tokens=4096", "12345:AAbc"),
    *("max_new_tokens=512, eos_token='<|im_end|>', pad_token_id=0", "key: prompt-0017"),
    *("answer_key=prime", "token_budget: 8192", "next_token=220", "api_key=None", "password=***"),
    *("basic arithmetic and basic operations", "bearer authentication is used", "a basic step"),
    *("/data/runs/first/checkpoints/iteration-000007/policy/rank-0.safetensors", "tests/key.py:12"),
    *("--token-budget 512 --keyword arithmetic", "--key value", "https://host.example/?page=2#key"),
    *("RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN_PATH=/home/me/.ray/auth_token"),
    *("endpoint.key_variable is 'JUDGE_KEY'", "WANDB_API_KEY is not set", "RLSTEP_DOOR_TOKEN"),
    *(
        "the password is wrong",
        "no secret is kept",
        "author: somebody else",
        "learner 'policy' rank 0",
    ),
    "/home/me/.cache/huggingface/hub/models--a--b/snapshots/" + drawn(HEXADECIMAL, 40) + "/x.json",
    "{'size': 12, 'sha256': '" + drawn(HEXADECIMAL, 64) + "'}",
    "commit " + drawn(HEXADECIMAL, 40),
    "weights_hash=" + drawn(HEXADECIMAL, 64),
    drawn(HEXADECIMAL, 12),
    "-".join(drawn(HEXADECIMAL, n) for n in (8, 4, 4, 4, 12)),
    "arithmetic-full-step-dpo-20261129-033600",
    "tcp://127.0.0.1:45123 and http://[::1]:8000/v1/models",
    "2026-11-29 03:36:00,123 INFO worker.py:1896 -- Started a local Ray instance.",
]
"""What is none, of the kinds that logs and configurations are full of."""
