"""Made-up secrets in the shapes that real ones have. None of them opens anything."""

from __future__ import annotations

FILLER = "Zq7Xw2Lk9Vb4Nm1Tc8Rd5Hs3Jf6Gp0Ya"

BY_NAME = [
    ("api_key", "named-secret-01"),
    ("apikey", "named-secret-02"),
    ("WANDB_API_KEY", "named-secret-03"),
    ("hf_token", "named-secret-04"),
    ("token", "named-secret-05"),
    ("access_token", "named-secret-06"),
    ("auth_token", "named-secret-07"),
    ("password", "named-secret-08"),
    ("db_passwd", "named-secret-09"),
    ("client_secret", "named-secret-10"),
    ("private_key", "named-secret-11"),
    ("aws_secret_access_key", "named-secret-12"),
    ("credentials", "named-secret-13"),
    ("Authorization", "named-secret-14"),
    ("api-key", "named-secret-15"),
]

BY_SHAPE = [
    f"sk-{FILLER}",
    f"sk-proj-{FILLER}",
    f"sk-ant-api03-{FILLER}",
    f"hf_{FILLER}",
    f"ghp_{FILLER}",
    f"github_pat_{FILLER}",
    f"glpat-{FILLER}",
    f"xoxb-1234567890-{FILLER}",
    "AKIA" + "ABCDEFGHIJKLMNOP",
    f"AIza{FILLER}",
    "0123456789abcdef" * 2 + "01234567",
    f"wandb_v1_{FILLER}",
    f"eyJhbGciOi{FILLER}.eyJzdWIi{FILLER}.{FILLER}",
    f"-----BEGIN RSA PRIVATE KEY-----\n{FILLER}\n-----END RSA PRIVATE KEY-----",
    f"https://someone:{FILLER}@host.example/path",
    f"Bearer {FILLER}",
    f"--api-key={FILLER}",
    f"https://host.example/?token={FILLER}",
]
