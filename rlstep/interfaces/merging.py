"""From several fine-tuned models to what is added to the model that they began as."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray


class Merger(ABC):
    """Says how much of each task vector goes into a merge, by their inner products alone.

    A task vector is all weights of a model less those of its base. No merger sees one: K models
    are merged one weight at a time, and only these K x K numbers are ever held.
    """

    @abstractmethod
    def mix(self, products: NDArray[np.float64]) -> NDArray[np.float64]:
        """What becomes of every task vector: row i in terms of all of them.

        The merge is the base plus the sum of the rows.

        Args:
            products: [K, K], the task vectors' inner products; no task vector is 0.

        Returns:
            [K, K]; the identity adds all of them as they are.

        Raises:
            ValueError: it does not fit so many models; names the field.
        """
