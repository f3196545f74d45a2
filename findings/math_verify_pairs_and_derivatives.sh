#!/bin/sh
# Math-Verify reads the pair (1, 2) as an open interval, which it finds equal to the set of 1 and 2;
# and equations of derivatives are equal whatever they say: dy/dx = 2x is dy/dx = 3x.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q math-verify==0.9.0 latex2sympy2-extended==1.11.0
venv/bin/python - <<'PYTHON' 2>/dev/null
from importlib.metadata import version

from math_verify import parse, verify

print("math-verify", version("math-verify"))
pairs = [("(1,2)", r"\{1,2\}"), (r"\frac{dy}{dx}=2x", r"\frac{dy}{dx}=3x")]
equal = []
for gold, answer in pairs:
    read = [parse(rf"\boxed{{{text}}}") for text in (gold, answer)]
    equal.append(verify(*read))
    print(f"{gold} and {answer}, read as {read[0][0]} and {read[1][0]}: equal {equal[-1]}")
raise SystemExit(0 if all(equal) else "these are told apart now")
PYTHON
