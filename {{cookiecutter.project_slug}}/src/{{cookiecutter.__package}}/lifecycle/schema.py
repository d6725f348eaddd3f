"""The types of a table's columns, as a model's signature has them, from all of its rows."""

import math

import pandas as pd
from mlflow.types import ColSpec, DataType

from ..config import UserError

EXACT = 1 << 53  # whole numbers beyond it have no double of their own
LONG = 1 << 63
OBJECTS = {
    "string": "string",
    "empty": "string",
    "boolean": "boolean",
    "integer": "long",
    "floating": "double",
    "mixed-integer-float": "double",
    "decimal": "double",
    "date": "datetime",
    "datetime": "datetime",
    "datetime64": "datetime",
}
REMEDIES = {
    "bytes": "decode them to text",
    "timedelta": "convert them to numbers, as with .dt.total_seconds()",
    "timedelta64": "convert them to numbers, as with .dt.total_seconds()",
    "complex": "use a column for each part",
    "list": "use a column for each number",
    "ndarray": "use a column for each number",
    "tuple": "use a column for each number",
    "dict": "use a column for each key",
}


def schema_of(frame: pd.DataFrame) -> list[ColSpec]:
    """Return name, type, and whether it is always there, of each column.

    Whole numbers and booleans with gaps are doubles, as scikit-learn takes them. Raises `UserError`
    for a column whose values no file and no request can hold.
    """
    return [column(name, frame[name]) for name in frame]


def column(name: str, values: pd.Series) -> ColSpec:
    """Return the type of one column."""
    gaps = bool(values.isna().any())
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.cat.categories.to_series()
    kind = kind_of(name, values)
    if kind == "long":
        check_whole(name, values, gaps)
    if kind in ("long", "boolean") and gaps:
        kind = "double"
    return ColSpec(DataType[kind], name, required=not gaps)


def kind_of(name: str, values: pd.Series) -> str:
    """Return the name of the type of a column, gaps aside."""
    types = pd.api.types
    dtype = values.dtype
    if isinstance(dtype, pd.SparseDtype):
        raise refused(name, "sparse values", "use .sparse.to_dense()")
    if types.is_bool_dtype(dtype):
        return "boolean"
    if types.is_integer_dtype(dtype):
        return "long"
    if types.is_float_dtype(dtype):
        return "float" if getattr(dtype, "itemsize", 8) <= 4 else "double"
    if types.is_datetime64_any_dtype(dtype):
        return "datetime"
    found = types.infer_dtype(values, skipna=True)
    if found == "decimal":
        check_decimals(name, values)
    if found in OBJECTS:
        return OBJECTS[found]
    if found in REMEDIES:
        raise refused(name, f"values of type {found}", REMEDIES[found])
    kinds = list(dict.fromkeys(type(value).__name__ for value in values.dropna()))
    if len(kinds) > 1:
        raise refused(name, f"values of several types ({', '.join(kinds[:4])})", "use one type")
    raise refused(
        name,
        f"values of type {kinds[0] if kinds else dtype}",
        REMEDIES.get(kinds[0] if kinds else "", "convert them to numbers, text or time stamps"),
    )


def check_whole(name: str, values: pd.Series, gaps: bool) -> None:
    """Raise `UserError` for whole numbers that the type of their column cannot hold exactly."""
    known = values.dropna()
    low, high = (int(known.min()), int(known.max())) if len(known) else (0, 0)
    if not -LONG <= low <= high < LONG:
        raise refused(name, "whole numbers of more than 64 bits", "convert them to float or text")
    if gaps and not -EXACT <= low <= high <= EXACT:
        raise refused(
            name, "gaps and whole numbers beyond 2**53, which no double holds", "use text"
        )


def check_decimals(name: str, values: pd.Series) -> None:
    """Raise `UserError` for decimal numbers that are beyond a double."""
    if not all(math.isfinite(value) for value in values.dropna()):
        raise refused(name, "decimal numbers beyond 1.8e308", "scale them, or convert them to text")


def refused(name: str, what: str, remedy: str) -> UserError:
    """Return the error for a column that no later command can take."""
    return UserError(
        f"data.py: the column {name!r} holds {what}, which no command can read later: {remedy}."
    )
