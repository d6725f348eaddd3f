"""What a training run records, and what other commands read of it."""

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from {{ cookiecutter.__package }}.config import UserError
from {{ cookiecutter.__package }}.lifecycle import record

PARAMS = {
    "C": math.inf,
    "low": -math.inf,
    "gap": math.nan,
    "depth": None,
    "digit": "0",
    "text": "inf",
    "flag": True,
    "whole": 3,
    "float": 3.0,
    "size": (3, (4, None)),
    "names": ["a", {"b": (1,)}],
    "weights": {0: 0.5, 1: 2.0},
    "odd": {"$tuple": [1]},
    "numpy": np.float32(0.5),
}


def same(one, other):
    """Return whether two values are equal, of one type, all through."""
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    if isinstance(one, list | tuple):
        pairs = zip(one, other, strict=True)
        return type(one) is type(other) and all(same(*pair) for pair in pairs)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


def test_parameters_keep_their_types():
    text = json.dumps(record.encoded(PARAMS), allow_nan=False)
    found = record.decoded(json.loads(text))
    assert list(found) == list(PARAMS)
    assert same(found, PARAMS | {"numpy": 0.5})


@pytest.mark.parametrize("value", [{1, 2}, object(), b"x", {"a": [1j]}, lambda: 0])
def test_what_json_cannot_hold_is_an_error(value):
    with pytest.raises(TypeError, match="of type"):
        record.encoded(value)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Return a record whose files are in a folder, as if they were the artifacts of a run."""
    made = record.Record(
        "r1", PARAMS, 7, {"f1": 0.5, "odd": math.nan}, "late", ["days", "a b"], "c0de",
        {"training": "aa", "held_out": "bb"}, {"training": 3, "held_out": 2}, ["r0"],
        {"training": 3, "held_out": 250},
    )  # fmt: skip
    hashes = {"training": np.array([1, 2**64 - 1, 3], "uint64"), "held_out": np.array([4, 5])}
    rows = pd.DataFrame({"days": range(6250), "late": 1})
    record.write(tmp_path, made, hashes, rows)
    run = SimpleNamespace(info=SimpleNamespace(artifact_uri=tmp_path.as_uri()))
    monkeypatch.setattr(record, "checked_run", lambda run_id, step: run)
    return made


def test_a_record_is_read_as_it_was_written(written):
    found = record.read("r1")
    assert same(vars(found) | {"params": 0}, vars(written) | {"params": 0})
    assert same(found.params | {"numpy": 0}, written.params | {"numpy": 0})


def test_hashes_and_reference_are_read(written):
    hashes = record.row_hashes_of("r1")
    assert hashes["training"].tolist() == [1, 2**64 - 1, 3]
    assert hashes["training"].dtype == "uint64"


@pytest.mark.parametrize(("labelled", "kept"), [(0, 5000), (199, 5199), (200, 200), (5200, 5000)])
def test_labelled_rows_are_the_reference_where_there_are_enough(written, tmp_path, labelled, kept):
    made = dataclasses.replace(written, labelled={"held_out": labelled})
    rows = pd.DataFrame({"days": range(5000 + labelled), "late": 1})
    record.write(tmp_path, made, {}, rows)
    found = record.reference(made)
    assert len(found) == kept and list(found) == ["days", "late"] and found["days"].is_unique
    assert (found["days"] < 5000).any() == (labelled < 200)


def test_a_file_that_is_gone_gets_a_sentence(written, tmp_path, monkeypatch):
    def missing(place, dst_path):
        raise OSError("no such file")

    monkeypatch.setattr(record.mlflow.artifacts, "download_artifacts", missing)
    with pytest.raises(UserError, match="of run r1 cannot be read: `doctor`"):
        record.row_hashes_of("r1")


def test_a_record_of_another_format_gets_a_sentence(written, tmp_path):
    text = (tmp_path / record.RECORD).read_text().replace('"format": 1', '"format": 2')
    (tmp_path / record.RECORD).write_text(text)
    with pytest.raises(UserError, match="another version of this project"):
        record.read("r1")
