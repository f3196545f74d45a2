"""Bias of soft values from few continuations a visit: the plain and the compositional estimate.

    PYTHONPATH=. python tests/bench/log_partition.py [--prefixes 2000] [--json FILE]

ER-PRM's value of a prefix is (1/eta) log E exp(eta r), r being 1 for a right continuation. Of a
known distribution (a prefix that is solved with chance p) the exact value is known. Every prefix is
visited so many times, with K continuations each; the table has the bias of each estimate, the mean
over prefixes less the exact value, with its standard error, and the root of the mean square error:

    plain      the logarithm of the last visit's mean
    averaged   the mean of the visits' logarithms: less noise, the same bias
    gamma      the compositional estimate, `EntropyRegularised(gamma=...)`
    pooled     the logarithm of the mean over all continuations, `EntropyRegularised(gamma=0)`

The second table is of a prefix whose chance moves in the middle of the visits, as a policy's does.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlstep.interfaces import LabelView
from rlstep.tensors.labels import EntropyRegularised

ETA, CHANCE, BEFORE = 4.0, 0.3, 0.05
CONTINUATIONS = (1, 2, 4, 8, 16)
VISITS = (4, 16, 64)
GAMMAS = (0.5, 0.1)


def exact(chance: float) -> float:
    return float(np.log1p(chance * np.expm1(ETA)) / ETA)


def values(view: LabelView, n: NDArray[np.int32], k: NDArray[np.int32]) -> NDArray[np.float64]:
    """[prefixes] labels after [V, prefixes] counts; the views begin with the prompt's."""
    prompt = np.zeros((len(n), 1), np.int32)
    counts = (np.concatenate([prompt, each], 1) for each in (n, k))
    return view.labels_of_visits(*counts)[0].astype(np.float64)


def estimates(chances: NDArray[np.float64], drawn: int, prefixes: int, seed: int):
    """Estimates of [prefixes] after visits with these chances, [V], by name."""
    random = np.random.default_rng(seed)
    k = random.binomial(drawn, chances[:, None], (len(chances), prefixes)).astype(np.int32)
    n = np.full_like(k, drawn)
    plain = EntropyRegularised(eta=ETA)
    single = [values(plain, n[[v]], k[[v]]) for v in range(len(chances))]
    return {
        "plain": single[-1],
        "averaged": np.mean(single, axis=0),
        **{f"gamma {g:g}": values(EntropyRegularised(eta=ETA, gamma=g), n, k) for g in GAMMAS},
        "pooled": values(plain, n, k),
    }


def table(title: str, rows: list[dict[str, object]]) -> None:
    print(f"\n{title}")
    for row in rows:
        found: dict[str, tuple[float, float, float]] = row["estimates"]  # type: ignore[assignment]
        if row is rows[0]:
            print(f"{'visits':>6} {'K':>3}  " + "".join(f"{name:>26}" for name in found))
        cells = (f"{bias:+.4f} ± {error:.4f} ({rmse:.3f})" for bias, error, rmse in found.values())
        print(
            f"{row['visits']:>6} {row['continuations']:>3}  " + "".join(f"{c:>26}" for c in cells)
        )


def measured(chances: NDArray[np.float64], drawn: int, prefixes: int) -> dict[str, object]:
    """Bias, its standard error, and the root mean square error of every estimate."""
    seed = 1000 * len(chances) + drawn
    truth = exact(float(chances[-1]))
    found = {}
    for name, each in estimates(chances, drawn, prefixes, seed).items():
        wrong = each - truth
        error = wrong.std(ddof=1) / np.sqrt(prefixes)
        found[name] = (float(wrong.mean()), float(error), float(np.sqrt((wrong**2).mean())))
    return {"visits": len(chances), "continuations": drawn, "estimates": found}


def main() -> None:
    parser = argparse.ArgumentParser(description="Bias of soft values from few continuations")
    parser.add_argument("--prefixes", type=int, default=2000, help="of every row")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    options = parser.parse_args()
    still = [
        measured(np.full(visits, CHANCE), drawn, options.prefixes)
        for visits in VISITS
        for drawn in CONTINUATIONS
    ]
    half = max(VISITS) // 2
    moving = [
        measured(np.repeat([BEFORE, CHANCE], half), drawn, options.prefixes)
        for drawn in CONTINUATIONS
    ]
    print(f"eta {ETA:g}, exact value {exact(CHANCE):.4f}: bias ± standard error (rmse)")
    table(f"solved with chance {CHANCE} throughout", still)
    table(f"solved with chance {BEFORE} in the first half of the visits, then {CHANCE}", moving)
    if options.json:
        options.json.write_text(json.dumps({"still": still, "moving": moving}))


if __name__ == "__main__":
    main()
