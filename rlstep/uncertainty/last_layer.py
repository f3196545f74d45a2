"""How far a scalar head can be trusted, from the embeddings that it reads (AdvPO, 2403.05171).

A score is phi . e, with e the last layer's embedding and phi the head's weights. In directions
that no embedding of the training data had (or no difference of two), phi could be anything.

Dimensions: n embeddings, d their size. All of it is float64.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Matrix: TypeAlias = NDArray[np.floating]
Form: TypeAlias = Literal["paper", "differences"]
"""Of which vectors M is made: both embeddings of every pair, or their difference."""


def spread(embeddings: NDArray, above: NDArray, form: Form = "paper") -> Matrix:
    """[d, d]: the sum over pairs of e_c e_c^T + e_r e_r^T, or of (e_c - e_r) (e_c - e_r)^T.

    They are E^T D E and E^T (D - A) E, with A one where two make a pair, in either order, and D its
    row sums: so no [P, d] is ever made, of which there are up to n^2 / 2 rows.

    Args:
        embeddings: [n, d].
        above: bool [n, n], True at (i, j) where i is chosen over j.
        form: the first sum, the paper's, or the second.
    """
    rows = np.asarray(embeddings, np.float64)
    joined = above.astype(np.float64) + above.T
    each = joined.sum(axis=1)[:, None] * rows
    return rows.T @ (each if form == "paper" else each - joined @ rows)


def factor(spread: Matrix, ridge: float) -> Matrix:
    """[d, d]: the lower Cholesky factor of M = ridge I + spread.

    Raises:
        numpy.linalg.LinAlgError: M is not positive definite, or not finite.
    """
    return np.linalg.cholesky(ridge * np.eye(len(spread)) + np.asarray(spread, np.float64))


def uncertainty(lower: Matrix, embeddings: NDArray) -> Matrix:
    """[n]: sqrt(e^T M^-1 e) of each embedding [n, d], U of the paper with b = 1.

    With M = L L^T it is the length of L^-1 e.
    """
    return np.linalg.norm(np.linalg.solve(lower, np.asarray(embeddings, np.float64).T), axis=0)


def worst_case(lower: Matrix, differences: NDArray, radius: float) -> tuple[float, Matrix]:
    """What the batch's scores lose under the worst head within the radius, and each one's change.

    The worst phi has ||phi - phi_0||_M <= B and makes the batch's mean advantage over the reference
    least: with g the mean of the differences e(y) - e(y_ref), min over delta = phi - phi_0 of
    delta . g. Written with u = L^T delta, ||u|| <= B, it is u . L^-1 g >= -B ||L^-1 g||
    (Cauchy-Schwarz), and ||L^-1 g||^2 = g^T M^-1 g. There is equality at
    delta = -B M^-1 g / sqrt(g^T M^-1 g): one head for the whole batch, under which a sample's score
    moves by delta . (e(y) - e(y_ref)). These changes average to minus the penalty; they may be of
    either sign.

    Args:
        differences: [n, d], e(y) - e(y_ref) of the batch's samples; of no batch of one.
        radius: B.

    Returns:
        The penalty B sqrt(g^T M^-1 g), and [n] changes, all 0 where g is 0.
    """
    each = np.linalg.solve(lower, np.asarray(differences, np.float64).T)  # L^-1 (e - e_ref), [d, n]
    if not each.shape[1]:
        return 0.0, np.zeros(0)
    mean = each.mean(axis=1)
    length = float(np.linalg.norm(mean))
    if length == 0.0:
        return 0.0, np.zeros(each.shape[1])
    return radius * length, -radius * (mean @ each) / length
