"""The optional names of model.py, with their defaults."""

from collections.abc import Callable

from .. import model

THRESHOLDS: dict[str, tuple[str, float]] = getattr(model, "THRESHOLDS", {})
MARGIN: float = getattr(model, "MARGIN", 0)
TRUSTED_TYPES: list[str] = getattr(model, "TRUSTED_TYPES", [])
plots: Callable[..., dict] = getattr(model, "plots", lambda fitted, X, y: {})
