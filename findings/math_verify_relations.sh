#!/bin/sh
# For Math-Verify any two equations without a letter to solve for are equal, and the value of a
# function at a point has none: 'f(2) = 10' is 'f(3) = 99', so a reward for answers that are written
# as the question asks ("find f(2)") is 1 whatever the model says.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q math-verify==0.9.0 latex2sympy2-extended==1.11.0
venv/bin/python - 2>/dev/null <<'PYTHON'
import sys
from importlib.metadata import version

from math_verify import parse, verify

print("math-verify", version("math-verify"))
seen = []
for found, reference in (
    ("f(3) = 99", "f(2) = 10"),
    ("g(5) = 7", "f(0) = 1"),
    ("7 = 7", "f(2) = 10"),
    ("3 + 3 = 6", "2 + 2 = 4"),
    ("f(x) = 3x", "f(x) = 2x"),
    ("99", "f(2) = 10"),
):
    gold, answer = (parse(rf"\boxed{{{text}}}") for text in (reference, found))
    seen.append((verify(gold, answer), verify(answer, gold)))
    print(f"{found} for {reference}: {seen[-1][0]}, the other way round {seen[-1][1]}")
sys.exit(seen != [(True, True)] * 4 + [(False, False)] * 2)
PYTHON
