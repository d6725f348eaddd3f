"""Values are taken exactly or refused; columns that the model cannot be given get a sentence."""

import datetime
from decimal import Decimal
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow.types import ColSpec, Schema
from mlflow.types.schema import AnyType, Array, DataType

from {{ cookiecutter.__package }} import config
from {{ cookiecutter.__package }}.lifecycle import loaded, rows
from {{ cookiecutter.__package }}.lifecycle.values import MISSING, described


def fitted(kind, *values, required=True, note=None, dtype=object):
    """Return values as a model gets them in a column of a type."""
    inputs = rows.Inputs([ColSpec(kind, "x", required=required)], {"x": note or {}})
    column = pd.Series(values, dtype=dtype)
    return rows.fitting(pd.DataFrame({"x": column}), inputs, "It")["x"]


@pytest.mark.parametrize(
    ("kind", "given", "taken"),
    [
        ("long", "9007199254740993", 9007199254740993),
        ("long", 9007199254740993, 9007199254740993),
        ("long", "10.0", 10),
        ("long", "1e18", 10**18),
        ("long", True, 1),
        ("double", "1e3", 1000.0),
        ("double", " 1.5 ", 1.5),
        ("double", "True", 1.0),
        ("double", True, 1.0),
        ("double", Decimal("1.5"), 1.5),
        ("boolean", "TRUE", True),
        ("boolean", "0", False),
        ("boolean", 1.0, True),
        ("string", 7, "7"),
        ("string", "007", "007"),
        ("string", True, "True"),
        ("datetime", "2026-01-01T00:00:00+02:00", pd.Timestamp("2025-12-31 22:00")),
        ("datetime", "2026-01-31", pd.Timestamp("2026-01-31")),
        ("datetime", datetime.date(2026, 1, 31), pd.Timestamp("2026-01-31")),
    ],
)
def test_a_value_is_taken_exactly(kind, given, taken):
    found = fitted(kind, given).tolist()[0]
    assert found == taken and type(found) is type(taken)
    assert fitted(kind, given, given).tolist() == [taken, taken]


@pytest.mark.parametrize(
    ("kind", "given", "sentence"),
    [
        ("long", "9223372036854775808", "is not a whole number (row 1: '9223372036854775808')."),
        ("long", "10.5", "is not a whole number (row 1: '10.5')."),
        ("long", 10.5, "is not a whole number (row 1: 10.5)."),
        ("long", None, "is not a whole number (row 1: missing)."),
        ("integer", 2147483648, "is not a whole number (row 1: 2147483648)."),
        ("double", "1,5", "is not a number (row 1: '1,5')."),
        ("double", [1.0], "is not a number (row 1: [1.0])."),
        ("boolean", "perhaps", "is not true or false (row 1: 'perhaps')."),
        ("boolean", 2, "is not true or false (row 1: 2)."),
        ("boolean", "NA", "is not true or false (row 1: 'NA')."),
        ("datetime", "2300-01-01", "is not a date (row 1: '2300-01-01'); dates are written"),
        ("datetime", np.datetime64("2300-01-01", "s"), "is not a date (row 1: "),
        ("datetime", "31/01/2026", "is not a date (row 1: '31/01/2026')"),
        ("datetime", 1767225600000, "is not a date (row 1: 1767225600000)"),
        ("string", {"a": 1}, "is not text (row 1: {'a': 1})."),
    ],
)
def test_a_value_is_refused(kind, given, sentence):
    with pytest.raises(config.UserError) as told:
        fitted(kind, given)
    assert str(told.value).startswith(f"It: 1 value of x {sentence}")


def test_rows_that_do_not_fit_can_be_left_out():
    frame = pd.DataFrame({"x": ["1", "10.5", "2", ""], "note": ["a", "b", "c", "d"]})
    inputs = Schema([ColSpec("long", "x"), ColSpec("string", "note")])
    found = rows.those_that_fit(frame, inputs, "It")
    assert found["x"].tolist() == [1, 2] and found.index.tolist() == [0, 2]
    with pytest.raises(config.UserError, match="2 values of x are not whole numbers .rows 2, 4: "):
        rows.fitting(frame, inputs, "It")
    with pytest.raises(config.UserError, match="lacks the column x, which the model needs"):
        rows.those_that_fit(frame[["note"]], inputs, "It")


def test_every_text_that_pandas_takes_for_missing_is_missing(tmp_path):
    (tmp_path / "in.csv").write_text("a,x\n" + "".join(f"1,{text}\n" for text in sorted(MISSING)))
    assert pd.read_csv(tmp_path / "in.csv")["x"].isna().all()
    for kind in ("string", "double", "datetime", "boolean", "long"):
        assert fitted(kind, *sorted(MISSING), required=False).isna().all(), kind


def test_a_gap_is_what_it_is_in_load():
    """None, NaN and NA are three values to a model; NA may be Namibia; an empty text is a text."""
    assert fitted("string", None, "NA", "a").tolist()[2] == "a"
    for frame, expected in (
        (pd.Series(["a", None], dtype=object), [None, None, None]),
        (pd.Series(["a", np.nan], dtype=object), [np.nan, np.nan, np.nan]),
        (pd.Series(["a", None], dtype="string"), [pd.NA, pd.NA, pd.NA]),
        (pd.Series(["NA", "ES"], dtype=object), [np.nan, np.nan, "NA"]),
        (pd.Series(["NA", None], dtype=object), [None, None, "NA"]),
        (pd.Series(["", "ES"], dtype=object), ["", "", ""]),
        (pd.Series(["NA", ""], dtype=object), ["", "", "NA"]),
    ):
        note = described(pd.DataFrame({"x": frame})).get("x")
        found = fitted("string", None, "", "NA", required=False, note=note).tolist()
        for one, wanted in zip(found, expected, strict=True):
            assert one is wanted or one == wanted or (one != one and wanted != wanted), frame
    assert fitted("boolean", None, True, required=False, note={"missing": "None"})[0] is None
    assert fitted("boolean", None, True, required=False).tolist()[1] == 1.0


def test_what_a_column_is_stored_as_does_not_count():
    """As Parquet files, databases and pandas store them."""
    stored = pa.table(
        {
            "a": pa.array(["x", "y", None]).dictionary_encode(),
            "b": pa.array([Decimal("1.5"), None, Decimal("2")]),
            "c": pa.array([datetime.date(2026, 1, 31), None, None]),
            "d": pa.array([True, None, False]),
            "e": pa.array([1, 2, 3], pa.uint64()),
            "f": pa.nulls(3),
        }
    )
    kinds = ("string", "double", "datetime", "boolean", "long", "double")
    inputs = Schema([ColSpec(kind, n, required=n == "e") for kind, n in zip(kinds, "abcdef")])  # noqa: B905
    for frame in (stored.to_pandas(types_mapper=pd.ArrowDtype), stored.to_pandas()):
        X = rows.fitting(frame, inputs, "It")
        assert X["a"].tolist()[:2] == ["x", "y"] and X["a"].isna().tolist() == [False, False, True]
        assert X["b"].fillna(0).tolist() == [1.5, 0, 2] and X["b"].dtype == "float64"
        assert X["c"].dt.day.fillna(0).tolist() == [31, 0, 0]
        assert X["d"].fillna(9).tolist() == [1, 9, 0]
        assert X["e"].tolist() == [1, 2, 3] and X["e"].dtype == "int64"
        assert X["f"].isna().all()


def test_columns_named_by_numbers_are_found_by_text():
    inputs = Schema([ColSpec("double", "0"), ColSpec("double", "1")])
    X = rows.fitting(pd.DataFrame([[1.5, 2.5]]), inputs, "It")
    assert X.to_dict("records") == [{"0": 1.5, "1": 2.5}]


def info(*columns, metadata=None):
    signature = SimpleNamespace(inputs=Schema([*columns])) if columns else None
    return SimpleNamespace(signature=signature, metadata=metadata)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ([], "has no signature, so nobody knows which columns it takes: train one"),
        ([ColSpec("double")], "has no signature"),
        ([ColSpec(Array(DataType.double), "vector")], "takes the column vector of type Array(do"),
        ([ColSpec(AnyType(), "remark", required=False)], "takes the column remark of type Any"),
        ([ColSpec("binary", "photo")], "takes the column photo of type "),
    ],
)
def test_a_model_that_no_row_can_be_given_to_gets_a_sentence(columns, sentence):
    with pytest.raises(config.UserError) as told:
        rows.inputs_of(info(*columns), "Version 3")
    assert str(told.value).startswith("Version 3 ") and sentence in str(told.value)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (AttributeError("module 'm' has no attribute 'Own'"), "needs code that is not there (modu"),
        (ModuleNotFoundError("No module named 'm'"), "needs code that is not there (No module"),
        (OSError("No such artifact"), "Version 3 cannot be loaded: No such artifact"),
        (TypeError("Untrusted types found"), "Version 3 cannot be loaded: Untrusted"),
    ],
)
def test_a_version_that_cannot_be_loaded_gets_a_sentence(monkeypatch, error, sentence):
    def load_model(*args, **kwargs):
        raise error

    monkeypatch.setattr(mlflow.pyfunc, "load_model", load_model)
    with pytest.raises(config.UserError) as told:
        loaded.load(SimpleNamespace(version="3", run_id=""))
    assert sentence in str(told.value)


def test_a_version_is_loaded_with_its_columns_and_its_example(tmp_path, monkeypatch):
    """A remark that hardly anybody writes: None, in training and in a request."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    remarks = pd.Series(["urgent", None, None, None], dtype=object)
    X = pd.DataFrame({"remark": remarks, "days": [1, 2, 3, 4]})
    steps = SimpleImputer(missing_values=None, strategy="constant", fill_value="none")
    text = make_pipeline(steps, OneHotEncoder(handle_unknown="ignore"))
    model = make_pipeline(make_column_transformer((text, ["remark"])), LinearRegression())
    model.fit(X, [9, 1, 1, 1])
    mlflow.sklearn.save_model(
        model,
        tmp_path / "model",
        signature=mlflow.models.infer_signature(X),
        input_example=X.tail(2),
        metadata={"columns": described(X)},
        pip_requirements=[],
        serialization_format="cloudpickle",
    )
    load_model = mlflow.pyfunc.load_model
    monkeypatch.setattr(
        mlflow.pyfunc, "load_model", lambda place, dst_path: load_model(str(tmp_path / "model"))
    )
    version = loaded.load(SimpleNamespace(version="3", run_id="r"))
    assert (version.version, version.run_id, version.classes) == ("3", "r", None)
    asked = pd.DataFrame({"remark": ["", "urgent"], "days": ["1", "2"]})
    asked = pd.concat([asked, version.example], ignore_index=True)
    answers = rows.scored(version.model, rows.fitting(asked, version.inputs, "It"))
    assert answers["prediction"].round(6).tolist() == [1, 9, 1, 1]


def same_hashes(*columns):
    found = [rows.row_hashes(pd.DataFrame({"x": one}), ["x"]).tolist() for one in columns]
    assert len({*found[0]}) == len(found[0]) and all(one == found[0] for one in found)


def test_a_row_has_one_hash_however_it_is_stored():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": [0.1, 2.5], "d": [True, False]})
    other = frame[["d", "c", "b", "a"]].astype({"a": "float64", "b": "string"})
    hashes = rows.row_hashes(frame, ["a", "b", "c", "d"])
    assert hashes.dtype == "uint64" and hashes.nbytes == 16 and len({*hashes}) == 2
    assert (hashes == rows.row_hashes(other, ["d", "c", "a", "b"])).all()
    assert (hashes != rows.row_hashes(frame.assign(c=[0.2, 2.6]), [*frame])).all()
    assert (hashes == rows.row_hashes(frame.assign(more=1), [*frame])).all()

    numbers = [1, None]
    same_hashes(
        pd.Series(numbers), pd.Series(numbers, dtype="Int64"), pd.Series([True, None]),
        pd.Series([True, None], dtype="boolean"), pd.Series(numbers, dtype="int64[pyarrow]"),
        pd.Series([Decimal(1), None]), pd.Series([1.0, -np.nan]),
    )  # fmt: skip
    same_hashes(
        pd.Series(["a", None], dtype=object), pd.Series(["a", np.nan], dtype=object),
        pd.Series(["a", ""]), pd.Series(["a", None], dtype="category"),
        pd.Series(["a", None], dtype="string"), pd.Series(["a", None], dtype="string[pyarrow]"),
    )  # fmt: skip
    times = pd.Series(pd.to_datetime(["2026-01-01", None]))
    same_hashes(
        times, times.astype("datetime64[s]"), times.astype(object), times.dt.tz_localize("UTC"),
        times.dt.tz_localize("UTC").dt.tz_convert("Europe/Madrid"),
        pd.Series([datetime.date(2026, 1, 1), None]),
    )  # fmt: skip
