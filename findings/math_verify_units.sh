#!/bin/sh
# Math-Verify drops units before it compares, so units that contradict are equal: 5 hours and 5
# minutes, square and cubic centimetres. Other words go the same way: '9 or more' is 9.
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
pairs = [
    (r"5\text{ hours}", r"5\text{ minutes}"),
    (r"5\text{ cm}^2", r"5\text{ cm}^3"),
    (r"9\text{ or more}", "9"),
]
equal = []
for gold, answer in pairs:
    read = [parse(rf"\boxed{{{text}}}") for text in (gold, answer)]
    equal.append(verify(*read))
    print(f"{gold} and {answer}, read as {read[0]} and {read[1]}: equal {equal[-1]}")
raise SystemExit(0 if all(equal) else "units and words are told apart now")
PYTHON
