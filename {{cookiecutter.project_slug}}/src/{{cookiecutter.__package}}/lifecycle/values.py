"""One column in the type that the model takes: what is missing, true, whole, a date or a text."""

from collections.abc import Collection
from types import NoneType
from typing import Any

import numpy as np
import pandas as pd

# Texts that mean "missing": those that pandas.read_csv takes for missing, too.
MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN")
    + ("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")
)
TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
EXACT = 2.0**53  # up to here a double holds every whole number
# The types of a signature that a column of a file can have: NumPy's name, and its name in words.
TYPES = {
    "double": ("float64", "a number", "numbers"),
    "float": ("float32", "a number", "numbers"),
    "long": ("int64", "a whole number", "whole numbers"),
    "integer": ("int32", "a whole number", "whole numbers"),
    "boolean": ("bool", "true or false", "true or false"),
    "datetime": ("datetime64[ns]", "a date", "dates"),
    "string": ("object", "text", "text"),
}


def described(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return what a signature cannot say of the columns of `load`, as notes for `fitted`.

    `words`: texts that elsewhere mean "missing" and are values here, as NA for Namibia; `missing`:
    what a missing value is to the model where it is not NaN ("None", or "" where `load` has only
    empty texts); `dtype`: of dates, and of texts that are missing as pandas.NA.
    """
    notes: dict[str, dict[str, Any]] = {}
    for name, values in frame.items():
        note: dict[str, Any] = {}
        gaps = values.isna().to_numpy(bool)
        if pd.api.types.is_datetime64_any_dtype(values.dtype) or (
            isinstance(values.dtype, pd.StringDtype) and values.dtype.na_value is pd.NA
        ):
            note["dtype"] = str(values.dtype)
        if values.dtype == object and any(value is None for value in values[gaps]):
            note["missing"] = "None"
        if words := sorted(set(plain(values)[missing(plain(values))])):
            note["words"] = words
            if "" in words and not gaps.any():
                note["missing"] = ""
        if note:
            notes[str(name)] = note
    return notes


def fitted(values: pd.Series, spec, note: dict) -> tuple[Any, np.ndarray]:
    """Return a column in the type that the signature has for it, and which values do not fit."""
    if (taken := numbers_of_json(values, spec.type.name)) is not None:
        return taken, np.zeros(len(values), bool)
    values = plain(values)
    gaps = values.isna().to_numpy(bool) | missing(values, note.get("words", ()))
    kind, dtype = spec.type.name, np.dtype(TYPES[spec.type.name][0])
    if kind == "string":
        return texts(values, gaps, note)
    if kind == "datetime":
        times = moments(values, gaps)
        wrong = times.isna().to_numpy(bool) & ~gaps
        return restored(times, note) if "dtype" in note else times.astype(dtype), wrong
    found = truths(values, gaps) if kind == "boolean" else numbers(values, gaps)
    if kind in ("double", "float"):
        return found.astype(dtype), np.isnan(found) & ~gaps
    fits = np.isin(found, (0, 1)) if kind == "boolean" else whole(found, dtype)
    wrong = ~fits & (spec.required | ~gaps)
    if not spec.required:  # a gap needs a type that has one, in each request alike
        if kind == "boolean" and note.get("missing") == "None":
            return pd.Series(
                [None if gap else one == 1 for gap, one in zip(gaps, found, strict=True)],
                values.index,
                object,
            ), wrong
        return found, wrong
    if wrong.any():
        return np.where(wrong, 0, found).astype(dtype), wrong
    return (exactly(values, found) if kind == "long" else found).astype(dtype), wrong


def numbers_of_json(values: pd.Series, kind: str) -> np.ndarray | None:
    """Return a column of numbers as a request in JSON has it; None if it is another column.

    `fitted` gives the same without this, but takes longer than most models.
    """
    if kind != "double" or values.dtype != object:
        return None
    given = values.to_numpy()
    return given.astype("float64") if {*map(type, given)} == {float} else None


def plain(values: pd.Series) -> pd.Series:
    """Return values without a type that only tells how they are stored."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        dtype = values.cat.categories.dtype
        return values.astype("float64" if dtype.kind in "iu" and values.hasnans else dtype)
    if isinstance(values.dtype, pd.ArrowDtype) and not pd.api.types.is_numeric_dtype(values.dtype):
        return values.astype(object)
    return values


def textual(values: pd.Series) -> bool:
    """Return whether a column may hold texts."""
    return values.dtype == object or isinstance(values.dtype, pd.StringDtype)


def missing(values: pd.Series, words: Collection[str] = ()) -> np.ndarray:
    """Return which values are texts that mean "missing" and are none of `words`."""
    meant = MISSING.difference(words) if words else MISSING
    if values.dtype == object:
        return np.array([type(one) is str and one in meant for one in values], bool)
    if textual(values):
        return values.isin(meant).to_numpy(bool)
    return np.zeros(len(values), bool)


def texts(values: pd.Series, gaps: np.ndarray, note: dict) -> tuple[pd.Series, np.ndarray]:
    """Return a column as texts; a missing one is given as `note` says, else as NaN."""
    found = values.to_numpy(object)
    wrong = np.array([isinstance(value, list | dict | bytes) for value in found], bool)
    if not all(type(value) is str for value in found):
        found = np.array([str(value) for value in found], object)
    if gaps.any():
        found = found.copy()
        found[gaps] = {"None": None, "": ""}.get(note.get("missing", "NaN"), np.nan)
    return pd.Series(found, values.index, note.get("dtype", object)), wrong


def numbers(values: pd.Series, gaps: np.ndarray) -> np.ndarray:
    """Return a column as double, NaN where a value is missing or not a number."""
    if not textual(values):
        if pd.api.types.is_numeric_dtype(values.dtype):  # truth values, too
            return values.to_numpy("float64", na_value=np.nan)
        return np.full(len(values), np.nan)  # dates
    if values.dtype == object and not gaps.any() and {*map(type, values)} <= {float, int}:
        return values.to_numpy("float64")
    known = values.mask(gaps) if gaps.any() else values
    found = pd.to_numeric(known, errors="coerce").to_numpy("float64", na_value=np.nan)
    if (left := np.isnan(found) & ~gaps).any():  # True in CSV is true in JSON
        found = found.copy()
        truth = {"true": 1.0, "false": 0.0}
        found[left] = [truth.get(str(value).lower(), np.nan) for value in values[left]]
    return found


def truths(values: pd.Series, gaps: np.ndarray) -> np.ndarray:
    """Return a column of truth values as double: 1, 0, or NaN where a value is neither."""
    if not textual(values):
        return numbers(values, gaps)
    known = [TRUTH.get(str(value).lower()) for value in values]
    return np.where(gaps, np.nan, np.array(known, "float64"))


def whole(found: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return which doubles are whole numbers of an integer type."""
    limits = np.iinfo(dtype)
    with np.errstate(invalid="ignore"):
        return (found == np.round(found)) & (found >= limits.min) & (found < limits.max + 1.0)


def exactly(values: pd.Series, found: np.ndarray) -> np.ndarray:
    """Return whole numbers as they were written, also those that a double does not hold."""
    if not (np.abs(found) >= EXACT).any():
        return found
    if pd.api.types.is_integer_dtype(values.dtype):
        return values.to_numpy("int64")

    def number(value, rounded: float) -> int:
        try:
            return int(value)
        except ValueError:  # a text such as 1e18
            return int(rounded)

    return np.array([number(*pair) for pair in zip(values, found, strict=True)], "int64")


def moments(values: pd.Series, gaps: np.ndarray) -> pd.Series:
    """Return a column of dates in UTC without a zone, missing where a value is not a date."""
    if textual(values):
        if values.dtype == object:  # numbers are dates in no known unit
            gaps = gaps | np.array([isinstance(value, int | float) for value in values], bool)
        values = values.mask(gaps, None)
    elif not pd.api.types.is_datetime64_any_dtype(values.dtype):
        values = pd.Series(None, values.index, object)
    times = pd.to_datetime(values, errors="coerce", format="ISO8601", utc=True).dt.tz_localize(None)
    return times.where(times.between(pd.Timestamp.min, pd.Timestamp.max))


def restored(times: pd.Series, note: dict) -> pd.Series:
    """Return times in the unit and the zone that `load` has."""
    dtype = pd.api.types.pandas_dtype(note["dtype"])
    zoned = isinstance(dtype, pd.DatetimeTZDtype)
    return (times.dt.tz_localize("UTC") if zoned else times).astype(dtype)


def misfits(values: pd.Series, spec) -> str:
    """Return what is wrong with values that do not fit the type of a column."""
    _, one, several = TYPES[spec.type.name]
    first = values.tolist()[0]
    shown = "missing" if isinstance(first, str | NoneType) and not first else repr(first)
    if pd.api.types.is_scalar(first) and pd.isna(first):
        shown = "missing"
    rows = ", ".join(str(row + 1) for row in values.index[:3])
    written = "; dates are written as 2026-01-31, from 1678 to 2261" if one == "a date" else ""
    if len(values) == 1:
        return f"1 value of {spec.name} is not {one} (row {rows}: {shown:.60}){written}."
    found = f"{len(values)} values of {spec.name} are not {several}"
    return f"{found} (rows {rows}: {shown:.60}){written}."
