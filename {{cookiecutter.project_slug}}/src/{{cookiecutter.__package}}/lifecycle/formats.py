"""Parse a request to `serve` in each of MLflow's forms, and write the answer as MLflow does."""

import io
import json

import numpy as np
import pandas as pd
import pyarrow as pa

from ..config import UserError
from .rows import csv_rows, parquet_rows

CSV, JSON, PARQUET = "text/csv", "application/json", "application/vnd.apache.parquet"
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
ASKED = f"The request must be a JSON object with exactly one of {', '.join(FORMS)}"


class UnknownType(UserError):
    """A request of a content type that is not understood."""


def rows_in(kind: str, body: bytes, names: list[str]) -> pd.DataFrame:
    """Return the rows of a request of the content type `kind`, as they were sent.

    `names` are the columns of the model: the values of its only column need no name.
    Raises `UnknownType` for another content type, `UserError` if the body cannot be read.
    """
    kind, *parameters = (part.strip() for part in kind.split(";"))
    given = {name.strip().lower(): value.strip() for name, _, value in
             (part.partition("=") for part in parameters if part)}  # fmt: skip
    if given.pop("charset", "utf-8").strip('"').lower() != "utf-8":
        raise UnknownType("The scoring server only supports UTF-8")
    if given:
        raise UnknownType(f"Unrecognized content type parameters: {', '.join(given)}.")
    parsers = {CSV: from_csv, JSON: from_json, PARQUET: from_parquet}
    if kind.lower() not in parsers:
        raise UnknownType(f"The content type is one of {', '.join(parsers)}, not {kind!r}.")
    rows = parsers[kind.lower()](body, names)
    if rows.empty:
        raise UserError("The request has no rows.")
    return rows


def from_csv(body: bytes, names: list[str]) -> pd.DataFrame:
    """Return the rows of a CSV, each value as text."""
    try:
        return pd.concat([*csv_rows(io.BytesIO(body), "The request")] or [pd.DataFrame()])
    except ValueError as error:
        what = str(error).splitlines()[0]
        raise UserError(f"The request cannot be read as CSV: {what}") from error


def from_parquet(body: bytes, names: list[str]) -> pd.DataFrame:
    """Return the rows of a Parquet file."""
    try:
        # Without threads: one that still holds Python's bytes when the process ends aborts it.
        parts = parquet_rows(io.BytesIO(body), "The request", threads=False)
        return pd.concat([rows for rows, _ in parts] or [pd.DataFrame()])
    except (OSError, ValueError, pa.ArrowException) as error:
        what = str(error).splitlines()[0]
        raise UserError(f"The request cannot be read as Parquet: {what}") from error


def from_json(body: bytes, names: list[str]) -> pd.DataFrame:
    """Return the rows of a JSON object; each value keeps its type, whatever stands beside it."""
    try:
        data = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"The request is not valid JSON: {error}") from error
    if not isinstance(data, dict) or len(forms := [name for name in FORMS if name in data]) != 1:
        raise UserError(f"{ASKED}.")
    form, content = forms[0], data[forms[0]]
    if form == "dataframe_split":
        return from_split(content)
    if form != "dataframe_records" and isinstance(content, dict):
        return from_columns(content, form)
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return from_records(content)
    if form != "dataframe_records" and isinstance(content, list) and len(names) == 1:
        return table(names, [content], form)
    raise UserError(f"{form} must be a list of objects, each with the columns of one row.")


def from_split(content: object) -> pd.DataFrame:
    """Return the rows of `dataframe_split`: an object with `columns` and `data`, row by row."""
    if not isinstance(content, dict) or not {"columns", "data"} <= {*content} <= {
        "columns", "data", "index"
    }:  # fmt: skip
        raise UserError("dataframe_split must be an object with columns and data.")
    columns, data = content["columns"], content["data"]
    if not isinstance(columns, list) or not isinstance(data, list):
        raise UserError("dataframe_split must have a list of columns and a list of rows.")
    for number, row in enumerate(data, 1):
        if not isinstance(row, list) or len(row) != len(columns):
            raise UserError(f"dataframe_split: row {number} must have {len(columns)} values.")
    return table(columns, zip(*data, strict=True) if data else [[] for _ in columns], "")


def from_records(content: list[dict]) -> pd.DataFrame:
    """Return the rows of a list of objects; a column that one of them lacks is in none."""
    names = [name for name in (content or [{}])[0] if all(name in row for row in content)]
    return table(names, [[row[name] for row in content] for name in names], "")


def from_columns(content: dict, form: str) -> pd.DataFrame:
    """Return the rows of an object of columns: lists of one length, or the values of one row."""
    columns = list(content.values())
    if not any(isinstance(values, list) for values in columns):
        columns = [[value] for value in columns]
    if not all(isinstance(one, list) and len(one) == len(columns[0]) for one in columns):
        raise UserError(f"{form}: all columns must be lists of the same length.")
    return table(list(content), columns, form)


def table(names: list, columns, form: str) -> pd.DataFrame:
    """Return columns as a frame whose values are the objects that they were."""
    arrays = []
    for values in columns:
        arrays.append(np.fromiter(values, object, len(values)))
    frame = pd.DataFrame(dict(enumerate(arrays)), dtype=object)
    return frame.set_axis([str(name) for name in names], axis=1)


def answer_of(prediction, shares=None, classes: list | None = None) -> str:
    """Return predictions as the JSON of MLflow's server.

    `shares` (rows x classes) come beside them, as an object of class and probability for each row.
    """
    content = {"predictions": np.asarray(prediction).tolist()}
    if shares is not None:
        names = [str(one) for one in classes or []]
        content["probabilities"] = [dict(zip(names, row, strict=True)) for row in shares.tolist()]
    return json.dumps(content, default=str)
