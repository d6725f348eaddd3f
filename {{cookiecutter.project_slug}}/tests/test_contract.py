"""What `train` accepts of data.py and model.py: words, parameters, columns, parts of the rows."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from {{ cookiecutter.__package }} import data, model
from {{ cookiecutter.__package }}.config import UserError
from {{ cookiecutter.__package }}.lifecycle import contract, parts


def halves(frame):
    """Split a table: every second row is held out."""
    return frame.iloc[::2], frame.iloc[1::2]


@pytest.fixture(autouse=True)
def task(monkeypatch):
    """Make data.py and model.py those of a task of the tests' own."""
    monkeypatch.setattr(data, "TARGET", "late")
    monkeypatch.setattr(data, "split", halves)
    monkeypatch.setattr(model, "TASK", "classifier")
    monkeypatch.setattr(model, "PRIMARY", ("f1", "maximize"))
    monkeypatch.setattr(model, "PARAMS", {"C": 1.0})
    for name, value in {"THRESHOLDS": {}, "MARGIN": 0, "TRUSTED_TYPES": []}.items():
        monkeypatch.setattr(contract, name, value)


def table(**columns):
    """Return eight rows with a target and the given columns."""
    return pd.DataFrame({"days": range(8), "late": [0, 1, 1, 0, 0, 0, 1, 1], **columns})


def rows_of(frame):
    """Return the rows of a run without labelled ones."""
    return parts.rows_of(frame, [])


def refusal(call, *given):
    """Return the sentence of the error of a call."""
    with pytest.raises(UserError) as error:
        call(*given)
    told = str(error.value)
    assert told.startswith(("data.py: ", "model.py: ")) and told.endswith("."), told
    return told


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("PRIMARY", ("f1", "max"), ["'max'", '"maximize" or "minimize"']),
        ("PRIMARY", ("f1", "Maximize"), ["'Maximize'"]),
        ("PRIMARY", "f1", ["'f1'"]),
        ("TASK", "classification", ["'classification'", '"classifier" or "regressor"']),
        ("THRESHOLDS", {"f1": (">", 0.9)}, ["'>'", '">=" or "<="']),
        ("THRESHOLDS", {"f1": 0.9}, ["0.9", "a sign and a number"]),
        ("THRESHOLDS", {"f1": (">=", "0.9")}, ["'0.9'", "number"]),
        ("THRESHOLDS", {"f1": (">=", float("nan"))}, ["nan", "number"]),
        ("MARGIN", -0.1, ["-0.1"]),
        ("MARGIN", "small", ["'small'"]),
        ("TRUSTED_TYPES", "numpy.dtype", ["TRUSTED_TYPES"]),
        ("build", None, ["build"]),
        ("space", 3, ["space"]),
    ],
)
def test_an_unknown_word_of_model_py_is_refused(monkeypatch, name, value, parts):
    place = contract if name in ("THRESHOLDS", "MARGIN", "TRUSTED_TYPES") else model
    monkeypatch.setattr(place, name, value, raising=False)
    told = refusal(contract.check_names)
    assert told.startswith("model.py: ") and all(part in told for part in parts), told


def test_known_words_are_accepted(monkeypatch):
    for direction in ("maximize", "minimize"):
        monkeypatch.setattr(model, "PRIMARY", ("f1", direction))
        for sign in (">=", "<="):
            monkeypatch.setattr(contract, "THRESHOLDS", {"f1": (sign, 0.5)})
            contract.check_names()


def test_a_seed_among_the_parameters_is_refused():
    assert "option of train" in refusal(contract.check_parameters, {"seed": 42})


def test_parameters_have_to_be_recordable():
    known = {"C": np.inf, "size": (3, 4), "names": ["a", None], "n": np.int64(3), "w": {1: 0.5}}
    assert contract.check_parameters(known) is known
    assert "type set" in refusal(contract.check_parameters, {"names": {"a"}})
    assert "type LogisticRegression" in refusal(
        contract.check_parameters, {"inner": LogisticRegression()}
    )


def inner_function():
    """Return a function that has no name in its module."""

    def inside(X):
        return X

    return inside


@pytest.mark.parametrize("function", [lambda X: X, inner_function()])
def test_a_function_without_a_name_is_refused(function):
    pipeline = make_pipeline(FunctionTransformer(function), LogisticRegression())
    told = refusal(contract.check_storable, pipeline)
    assert "function or class with a name" in told and "TRUSTED_TYPES" not in told


def test_metrics_that_decide_have_to_be_returned(monkeypatch):
    monkeypatch.setattr(contract, "THRESHOLDS", {"recall": (">=", 0.5)})
    assert contract.check_metrics({"f1": np.float64(1), "recall": 1}) == {"f1": 1, "recall": 1}
    assert "PRIMARY names the metric 'f1'" in refusal(contract.check_metrics, {"recall": 1})
    told = refusal(contract.check_metrics, {"f1": 1})
    assert "THRESHOLDS names the metric 'recall'" in told
    told = refusal(contract.check_metrics, {"f1": np.nan, "recall": 1})
    assert "nan" in told and "'f1'" in told
    refusal(contract.check_metrics, {"f1": 1, "recall": 1, "matrix": [[1]]})
    refusal(contract.check_metrics, [0.5])


@pytest.mark.parametrize(
    ("frame", "part"),
    [
        (None, "pandas DataFrame"),
        (table().head(0), "rows"),
        (table().rename(columns={"days": 0}), "frame.rename(columns=str)"),
        (table().rename(columns={"days": ("a", "b")}), "frame.rename(columns=str)"),
        (table(x=1).rename(columns={"x": "days"}), "two columns named 'days'"),
        (table().rename(columns={"late": "Late"}), "no column 'late'"),
        (table()[["late"]], "no column but the target"),
        (table(probability=1), "'probability'"),
        (table(model_version=1), "'model_version'"),
        (table(probability_1=1), "'probability_1'"),
        (table().assign(late=[0, 1, None, 0, 0, 0, 1, 1]), "missing in 1 rows"),
        (table().assign(late=1), "one class only"),
        (table().assign(late=[0, 1] * 4), "training rows have one class only"),
        (table(x=[[1, 2]] * 8), "'x' holds values of type list"),
        (table(x=[{"a": 1}] * 8), "'x' holds values of type dict"),
        (table(x=[b"a"] * 8), "'x' holds values of type bytes"),
        (table(x=[1, "a"] * 4), "'x' holds values of several types (int, str)"),
        (table(x=[True, 2.5] * 4), "'x' holds values of several types"),
        (table(x=[1j] * 8), "'x' holds values of type complex"),
        (table(x=pd.to_timedelta(range(8), "D")), "total_seconds"),
        (table(x=pd.period_range("2026-01", periods=8, freq="M")), "'x' holds"),
        (table(x=pd.arrays.SparseArray([0] * 8)), "to_dense"),
        (table(x=[datetime.time(1)] * 8), "'x' holds"),
        (table(x=[Decimal("1e400")] * 8), "decimal numbers beyond"),
        (table(x=[2**64] * 8), "more than 64 bits"),
        (table(x=np.array([2**63] * 8, "uint64")), "more than 64 bits"),
        (table(x=pd.array([2**60, None] * 4, "Int64")), "beyond 2**53"),
    ],
)
def test_a_table_that_no_later_command_can_use_is_refused(frame, part):
    told = refusal(rows_of, frame)
    assert told.startswith("data.py: ") and part in told


def test_a_target_of_a_regressor_is_numbers(monkeypatch):
    monkeypatch.setattr(model, "TASK", "regressor")
    X, y = rows_of(table()).part("held_out")
    assert y.dtype == "float64" and X["days"].dtype == "int64"  # a later target may be 0.5
    told = refusal(rows_of, table().assign(late=["a", "b"] * 4))
    assert "regressor" in told


def test_rows_on_both_sides_are_refused(monkeypatch):
    monkeypatch.setattr(data, "split", lambda frame: (frame, frame.iloc[:2]))
    assert "both" in refusal(rows_of, table())
    monkeypatch.setattr(data, "split", halves)
    twice = pd.concat([table(), table()]).sort_values("days", ignore_index=True)
    rows = rows_of(twice)  # each copy on its side
    assert rows.hashes["training"].tolist() == rows.hashes["held_out"].tolist()


@pytest.mark.parametrize("parts", [None, (table(),), (table(), table().head(0)), (table(), 3)])
def test_split_has_to_return_two_tables(monkeypatch, parts):
    monkeypatch.setattr(data, "split", lambda frame: parts)
    assert "two DataFrames" in refusal(rows_of, table())


def test_split_has_to_keep_the_columns(monkeypatch):
    monkeypatch.setattr(data, "split", lambda frame: [part[["late"]] for part in halves(frame)])
    assert "keep the columns" in refusal(rows_of, table())


GAP = [None] + [1] * 7
TIMES = pd.date_range("2026-01-01", periods=8, tz="Europe/Madrid")
DATES = [datetime.date(2026, 1, day) for day in range(1, 9)]


@pytest.mark.parametrize(
    ("values", "kind", "dtype"),
    [
        (range(8), "long", "int64"),
        (pd.array(range(8), "Int8"), "long", "int64"),
        (pd.array(GAP, "Int64"), "double", "float64"),
        (np.arange(8, dtype="uint64"), "long", "int64"),
        (pd.array(GAP, "UInt16"), "double", "float64"),
        (np.arange(8, dtype="float32"), "float", "float32"),
        (pd.array(GAP, "Float64"), "double", "float64"),
        ([True, False] * 4, "boolean", "bool"),
        (pd.array([True, None] * 4, "boolean"), "double", "float64"),
        ([True, None] * 4, "double", "float64"),
        ([Decimal("0.1"), None] * 4, "double", "float64"),
        ([1, 2.5] * 4, "double", "float64"),
        (["a", None] * 4, "string", "object"),
        ([None] * 8, "string", "object"),
        (pd.Categorical(["a", "b"] * 4), "string", "object"),
        (pd.Categorical([1, 2] * 4), "long", "int64"),
        (pd.Categorical([1, None] * 4), "double", "float64"),
        (TIMES, "datetime", TIMES.dtype),
        (TIMES.tz_localize(None).astype("datetime64[s]"), "datetime", "datetime64[s]"),
        (DATES, "datetime", "datetime64[ns]"),
        (pd.array(range(8), "int64[pyarrow]"), "long", "int64"),
        (pd.array(["a"] * 8, "string[pyarrow]"), "string", "string[pyarrow]"),
    ],
)
def test_types_that_people_have_become_those_of_every_command(values, kind, dtype):
    rows = rows_of(table(x=values))
    assert {spec.name: spec.type.name for spec in rows.inputs.inputs} == {"days": "long", "x": kind}
    for part in (rows.training, rows.held_out):
        X, y = rows.read(part)
        assert X["x"].dtype == dtype and X.columns.tolist() == ["days", "x"]
        assert X["x"].isna().tolist() == part["x"].isna().tolist()
        assert y.tolist() == part["late"].tolist()


def test_the_types_come_from_all_rows():
    """A text that only training rows have, and a gap that only held-out rows have."""
    rows = rows_of(
        table(text=["a", None, "b", None] * 2, number=[1, 2, 3, None] * 2, days=range(8))
    )
    found = {spec.name: (spec.type.name, spec.required) for spec in rows.inputs.inputs}
    assert found == {"days": ("long", True), "text": ("string", False), "number": ("double", False)}


@pytest.mark.parametrize("name", ["a$b$", "{x}", "two\nlines", "🌍", "x" * 300, "id", " ", "a#b"])
def test_odd_names_are_accepted(name):
    assert rows_of(table(**{name: 1.5})).columns() == ["days", name]


def test_a_category_is_one_when_the_model_is_fitted_and_text_when_it_is_asked():
    rows = rows_of(table(site=pd.Categorical(["a", "b"] * 4)))
    X, _ = rows.read(rows.training)
    assert X["site"].dtype == object
    assert rows.with_categories(X)["site"].dtype == "category"


def test_a_digest_tells_one_set_of_rows_from_another():
    one, again, other = (rows_of(table(x=x)) for x in ([1] * 8, [1.0] * 8, [2] * 8))
    assert one.digests() == again.digests() and one.counts() == {"training": 4, "held_out": 4}
    assert one.digests()["training"] != other.digests()["training"]
    assert one.digests()["training"] != one.digests()["held_out"]
