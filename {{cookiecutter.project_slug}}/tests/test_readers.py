"""A row means the same wherever it comes from: `load`, a file, a request, the log."""

import json
from datetime import datetime
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from {{ cookiecutter.__package }}.lifecycle import formats, requests, rows, serve
from {{ cookiecutter.__package }}.lifecycle.loaded import Loaded
from {{ cookiecutter.__package }}.lifecycle.values import MISSING, described

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(
    lambda text: text not in MISSING
)
moments = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1))
modern = st.datetimes(datetime(1950, 1, 1), datetime(2030, 1, 1))  # offsets of whole minutes
doubles = st.floats(allow_nan=False, allow_infinity=False)
small, large = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**62), 2**62)
# What `load` may have: values, pandas' type, and whether a value may be missing.
KINDS = {
    "double": (doubles, "float64", True),
    "whole": (large, "int64", False),
    "small": (small, "int32", False),
    "gappy whole": (st.integers(-(2**53), 2**53), "Int64", True),
    "truth": (st.booleans(), "bool", False),
    "gappy truth": (st.booleans(), "boolean", True),
    "truth or None": (st.booleans(), "object", True),
    "text": (texts, "object", False),
    "text or None": (texts, "object", True),
    "text or NaN": (texts, "str", True),
    "text or NA": (texts, "string", True),
    "words": (st.sampled_from(sorted(MISSING)), "object", False),
    "category": (texts, "category", True),
    "date": (moments, "datetime64[us]", True),
    "second": (moments.map(lambda one: one.replace(microsecond=0)), "datetime64[s]", False),
    "local": (modern, "datetime64[us, Europe/Madrid]", True),
}


@st.composite
def frames(draw):
    """Return a frame as `load` may return it: one column of each of some kinds."""
    size = draw(st.integers(1, 4))
    kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=6, unique=True))
    columns = {}
    for kind in kinds:
        values, dtype, gaps = KINDS[kind]
        drawn = draw(st.lists(values | st.none() if gaps else values, min_size=size, max_size=size))
        if all(value is None for value in drawn):
            drawn[0] = draw(values)  # MLflow knows no type for a column without values
        columns[kind] = pd.Series(drawn, dtype=dtype)
    return pd.DataFrame(columns)


class Echo:
    """A model that answers with the very values and types that it is given."""

    def predict(self, X):
        return np.array([repr([*map(told, row)]) for row in X.itertuples(index=False)], object)


def told(value):
    """Return a value; numbers and truth values as scikit-learn sees them."""
    if value is pd.NaT:
        return "NaT"
    return value if value is None or isinstance(value, str | pd.Timestamp) else (
        "NA" if value is pd.NA else float(value) if abs(value) < 2**53 or value % 1 else int(value)
    )  # fmt: skip


def known(frame):
    """Return what a model of the frame's columns would be loaded as."""
    noted = {"columns": json.loads(json.dumps(described(frame)))}
    info = SimpleNamespace(signature=mlflow.models.infer_signature(frame), metadata=noted)
    return rows.inputs_of(info, "It")


def jsonable(value):
    """Return a value as a client would write it in JSON."""
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return None
    return value.isoformat() if isinstance(value, datetime) else value


def sent(frame):
    """Yield each form in which a client may send the rows: content type and body."""
    table = {name: [jsonable(value) for value in frame[name].astype(object)] for name in frame}
    records = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    split = {"columns": [*table], "data": [[*record.values()] for record in records]}
    yield "dataframe_split", formats.JSON, json.dumps({"dataframe_split": split}).encode()
    for form in ("dataframe_records", "instances", "inputs"):
        yield form, formats.JSON, json.dumps({form: records}).encode()
    for form in ("instances", "inputs"):
        yield f"{form} by column", formats.JSON, json.dumps({form: table}).encode()
    csv = frame.to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%S.%f%z").encode()
    yield "CSV", formats.CSV, csv
    yield "CSV with a mark", "text/csv; charset=utf-8", b"\xef\xbb\xbf" + csv
    yield "Parquet", formats.PARQUET, frame.to_parquet(index=False)


def answered(loaded, kind, body):
    """Return what `serve` answers, and what the model makes of the log's line about it."""
    response = serve.answer(loaded, kind, body, {}, "false")
    assert response.status_code == 200, bytes(response.body).decode()
    given = requests.rows_of(kind, requests.text_of(kind, body), loaded.inputs.input_names())
    again = rows.fitting(pd.DataFrame(given, dtype=object), loaded.inputs, "The log")
    assert loaded.model.predict(again).tolist() == json.loads(response.body)["predictions"]
    return json.loads(response.body)["predictions"]


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # no shrinking, which takes minutes
    suppress_health_check=[HealthCheck.too_slow],
)
@given(frame=frames())
def test_the_model_is_given_the_same_in_each_way(frame, tmp_path_factory):
    loaded = Loaded("1", "", Echo(), known(frame))
    expected = Echo().predict(rows.fitting(frame, loaded.inputs, "load")).tolist()
    floats = {name: "float64" for name in ("gappy whole", "gappy truth") if name in frame}
    stored = {"category": frame["category"].astype(object)} if "category" in frame else {}
    assert Echo().predict(frame.astype(floats).assign(**stored)).tolist() == expected
    for form, kind, body in sent(frame):
        assert answered(loaded, kind, body) == expected, form
        ending = {formats.CSV: "csv", formats.PARQUET: "parquet"}.get(kind)
        if ending:
            file = tmp_path_factory.mktemp("rows") / f"rows.{ending.upper()}"
            file.write_bytes(body)
            X = rows.fitting(rows.read(file), loaded.inputs, file)
            assert Echo().predict(X).tolist() == expected, form
    for number in range(len(frame)):  # alone
        for form, kind, body in sent(frame.iloc[[number]]):
            assert answered(loaded, kind, body) == [expected[number]], form
