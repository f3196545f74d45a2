"""What the recipes of the long chains share: the horizons, the shipped policy, sizes by length."""

from pathlib import Path

from rlstep.tasks.modular_chain import ModularChain

POLICY = str(Path(__file__).resolve().parent / "policies" / "modular_chain")
"""Shipped; `modular_chain_sft.py` made it."""
HORIZONS = (4, 8, 16, 32, 64)
"""K: operations of a chain."""
CONTEXT = 400
"""Tokens of the longest problem with its solution: 2 K + 3, and 4 K + 2."""
TASK = ModularChain()
