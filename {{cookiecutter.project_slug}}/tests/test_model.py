"""Data and model keep the contract that every command relies on, whatever they are about."""

import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from {{ cookiecutter.__package }} import data, model
from {{ cookiecutter.__package }}.lifecycle import contract, parts


@pytest.fixture(scope="module")
def rows():
    return data.split(data.load())


def test_names_and_rows_keep_the_contract():
    contract.check_names()
    contract.check_parameters(model.PARAMS)
    parts.rows_of(data.load(), [])


def test_the_held_out_rows_are_others_and_always_the_same(rows):
    training, held_out = rows
    assert not set(training.index) & set(held_out.index)
    assert data.TARGET in training.columns
    pd.testing.assert_frame_equal(held_out, data.split(data.load())[1])


def test_the_model_is_built_unfitted(rows):
    _, held_out = rows
    with pytest.raises(NotFittedError):
        model.build(**model.PARAMS).predict(held_out.drop(columns=data.TARGET))


def test_a_fitted_model_is_good_enough_and_is_drawn(rows):
    (X, y), (X_new, y_new) = ((part.drop(columns=data.TARGET), part[data.TARGET]) for part in rows)
    fitted = clone(model.build(**model.PARAMS)).fit(X, y)
    metrics = contract.check_metrics(model.measure(fitted, X_new, y_new))
    for name, (sign, wanted) in contract.THRESHOLDS.items():
        assert metrics[name] >= wanted if sign == ">=" else metrics[name] <= wanted
    assert all(figure.axes for figure in contract.plots(fitted, X_new, y_new).values())
