"""The proof before a version is registered: rows come back the same, and the model takes them."""

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import Schema
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from {{ cookiecutter.__package }} import data, model
from {{ cookiecutter.__package }}.config import UserError
from {{ cookiecutter.__package }}.lifecycle import model_store, parts

ROWS = pd.DataFrame(
    {
        "number": [1.5, None, -1e300, 0.1 + 0.2, 5, 6, 7, 8],
        "text": ["a", "NA", None, "b, c", 'quoted "d"', "two\nlines", "😀", "x" * 50],
        "when": pd.date_range("2026-01-01", periods=8, tz="Europe/Madrid"),
        "flag": [True, False] * 4,
        "count": pd.array([2**62, 1, 2, 3, 4, 5, 6, 7], "UInt64"),
        "late": [0, 1, 1, 0, 0, 0, 1, 1],
    }
)


def numbers(X):
    """Return columns that every model takes."""
    return X[["flag", "count"]].astype(float)


def categories(X):
    """Return the codes of a category, which no file has."""
    return X["flag"].cat.codes.to_frame()


@pytest.fixture
def stored(monkeypatch, tmp_path):
    """Return a function that stores a model and proves it."""
    monkeypatch.setattr(data, "TARGET", "late")
    monkeypatch.setattr(model, "TASK", "classifier")
    monkeypatch.setattr(data, "split", lambda frame: (frame.iloc[::2], frame.iloc[1::2]))

    def store(function, frame=ROWS):
        rows = parts.rows_of(frame, [])
        X, y = rows.part("training")
        fitted = make_pipeline(FunctionTransformer(numbers), LogisticRegression()).fit(X, y)
        answers = infer_signature(fitted.predict(X)).inputs
        fitted.steps[0] = ("columns", FunctionTransformer(function))
        mlflow.sklearn.save_model(
            fitted,
            tmp_path / "model",
            signature=ModelSignature(Schema(rows.inputs.inputs), answers),
            metadata={"columns": rows.inputs.notes},
            pip_requirements=["skops"],
            skops_trusted_types=[f"{__name__}.numbers", f"{__name__}.categories"],
        )
        model_store.prove(str(tmp_path / "model"), rows)

    return store


def test_a_model_that_later_commands_can_use_passes(stored):
    stored(numbers)


def test_a_model_that_rejects_rows_of_files_does_not(stored):
    with pytest.raises(UserError, match="The model refuses"):
        stored(categories)


@pytest.mark.parametrize("way", ["CSV", "Parquet", "request"])
def test_each_way_is_tried(stored, monkeypatch, way):
    true_ways = model_store.ways

    def ways(rows, X):
        for source, found in true_ways(rows, X):
            changed = found.assign(text="other") if way in source else found
            yield source, changed

    monkeypatch.setattr(model_store, "ways", ways)
    with pytest.raises(UserError, match=f"{way}.*does not keep the column 'text'"):
        stored(numbers)


def test_the_rows_of_the_proof_have_gaps_and_extremes():
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(5000, 3)), columns=["a", "b", "c"])
    frame["text"] = "a"
    frame.loc[4000, ["a", "text"]] = 1e6, "long"
    frame.loc[4100, "b"] = -1e6
    frame.loc[4200, "c"] = None
    frame.loc[4300, "text"] = None
    rows = model_store.telling_rows(frame)
    assert len(rows) == 1000 == len(set(rows))
    assert {4000, 4100, 4200, 4300} <= set(rows[:16])
    assert sorted(model_store.telling_rows(frame.head(5))) == [0, 1, 2, 3, 4]
