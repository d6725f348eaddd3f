"""A model whose answers for a table of rows are computed once."""

import numpy as np
import pandas as pd


class Remembering:
    """A fitted model that answers the rows `X` once, and parts of them from memory.

    The index of `X` counts from 0. Parts are known by their index: other rows under the same
    numbers, as those that a metric changed or numbered anew, are answered by the model itself.
    """

    def __init__(self, model, X: pd.DataFrame) -> None:
        self._model, self._X = model, X
        self._known: dict[str, np.ndarray] = {}

    def __getattr__(self, name: str):
        found = getattr(self._model, name)
        if name not in ("predict", "predict_proba", "decision_function"):
            return found

        def answer(rows):
            if not self._is_part(rows):
                return found(rows)
            if name not in self._known:
                self._known[name] = np.asarray(found(self._X))
            return self._known[name][rows.index]

        return answer

    def _is_part(self, rows) -> bool:
        """Return whether `rows` are rows of `X`, unchanged and under their own numbers."""
        if not isinstance(rows, pd.DataFrame) or rows.index.dtype.kind != "i":
            return False
        numbers = rows.index.to_numpy()
        if not len(numbers) or numbers.min() < 0 or numbers.max() >= len(self._X):
            return False
        return rows.equals(self._X.iloc[numbers])
