"""Labelled rows of reports: their keys, their sides, and which of them are used."""

import mlflow
import numpy as np
import pandas as pd
import pytest

from {{ cookiecutter.__package }} import data, model
from {{ cookiecutter.__package }}.config import MODEL, UserError
from {{ cookiecutter.__package }}.lifecycle import batches, parts
from {{ cookiecutter.__package }}.lifecycle.batches import Batch

SIDES = batches.SIDES


@pytest.fixture(autouse=True)
def task(monkeypatch):
    """Make data.py and model.py those of a task of the tests' own."""
    monkeypatch.setattr(data, "TARGET", "late")
    monkeypatch.setattr(data, "split", lambda frame: (frame.iloc[::2], frame.iloc[1::2]))
    monkeypatch.setattr(model, "TASK", "classifier")


def rows(first, count=8, **changes):
    """Return rows that no other `first` has."""
    days = np.arange(first, first + count)
    table = {"days": days, "site": np.where(days % 2, "b", "a"), "late": days // 2 % 2}
    return pd.DataFrame(table | changes)


LOAD = rows(0)


def batch(run_id, frame, earlier=(), keys=None):
    """Return a batch as a report makes it; `keys` are pairs of an id and a row."""
    if keys:
        frame = frame.set_axis(pd.MultiIndex.from_tuples(keys, names=["id", "row"]))
    return Batch(run_id, batches.drawn(batches.keyed(frame), list(earlier)))


def used(*found, load=LOAD):
    """Return the labelled rows of batches beside those of `load`."""
    return parts.rows_of(load, list(found)).labelled


def days(sides):
    return {side: sorted(sides[side]["days"]) for side in SIDES}


def test_sides_are_drawn_once():
    first = batch("r1", rows(100))
    assert days(first.sides) == {"training": [100, 102, 104, 106], "held_out": [101, 103, 105, 107]}
    again = batch("r2", rows(99, 12), [first])  # 100 would be held out now, 101 trained on
    both = days(used(first, again).sides)
    assert {101, 103, 105, 107} < {*both["held_out"]} and {100, 102, 104, 106} < {*both["training"]}
    assert len(both["training"]) + len(both["held_out"]) == 12


def test_a_row_is_known_by_its_prediction_and_the_newest_label_counts():
    keys = [("p", number) for number in range(8)]
    first = batch("r1", rows(100), keys=keys)
    corrected = rows(100, late=1)
    second = batch("r2", corrected.assign(days=corrected.days + 0.0), [first], keys[:4] + [
        ("q", number) for number in range(4)
    ])  # fmt: skip
    assert first.sides["training"].index.tolist() == ["p/0", "p/2", "p/4", "p/6"]
    found = used(first, second)
    assert found.counts() == {"training": 6, "held_out": 6} and found.runs == ["r1", "r2"]
    late = pd.concat(found.sides.values()).groupby("days")["late"].apply(list)
    assert late[100] == [1] and late[106] == [1, 1]  # p/6 and q/2 are two predictions
    twice = batches.keyed(pd.concat([rows(100), rows(100, late=1)]))
    assert len(twice) == 8 and (twice["late"] == 1).all()  # no id: known by the features


def test_rows_that_load_has_by_now_are_dropped():
    kept = batch("r1", rows(100))
    found = used(kept, load=pd.concat([LOAD, rows(102, 4)], ignore_index=True))
    assert found.in_load == 4 and sum(found.counts().values()) == 4
    assert days(found.sides) == {"training": [100, 106], "held_out": [101, 107]}
    assert "4 are in load() by now" in str(found)
    common = pd.concat([LOAD, *[rows(102, 4)] * 2]).sort_values("days", ignore_index=True)
    assert used(kept, load=common).in_load == 0  # a value that many rows share, on both sides


def test_rows_that_do_not_fit_today_are_left_out_and_counted():
    odd = rows(100).assign(days=[100.5, *range(101, 108)])
    kept = [batch("r1", odd), batch("r2", rows(200, late=2)), batch("r3", rows(300))]
    found = used(*kept)
    assert found.left_out == 1 and found.counts() == {"training": 11, "held_out": 12}
    assert found.sides["training"].dtypes.tolist() == ["int64", "object", "int64"]
    assert str(found) == (
        "11 to train with and 12 held out, of 3 reports; 1 do not fit today's columns"
    )
    found = used(*kept, load=LOAD.assign(since=1.0))
    assert found.left_out == 24 and found.counts() == {"training": 0, "held_out": 0}
    assert used().counts() == {"training": 0, "held_out": 0}


def test_rows_of_both_are_one_part_and_hashed():
    kept = batch("r1", rows(100))
    found = parts.rows_of(LOAD, [kept])
    X, y = found.part("training")
    assert X["days"].tolist() == [0, 2, 4, 6, 100, 102, 104, 106] and len(y) == 8
    assert X["days"].dtype == "int64" and list(X) == ["days", "site"] and X.index.is_unique
    assert found.counts() == {"training": 8, "held_out": 8}
    alone = parts.rows_of(LOAD, [])
    assert found.digests()["held_out"] != alone.digests()["held_out"]


def test_a_batch_that_split_refuses_is_not_kept(monkeypatch):
    def by_site(frame):
        return frame[frame["region"] == "north"], frame[frame["region"] != "north"]

    monkeypatch.setattr(data, "split", by_site)
    with pytest.raises(UserError, match="cannot split the 8 new labelled rows, so they are not ke"):
        batch("r1", rows(100))
    monkeypatch.setattr(data, "split", lambda frame: (frame, frame.head(0)))
    with pytest.raises(UserError, match="two DataFrames with rows"):
        batch("r1", rows(100))


def test_batches_of_deleted_reports_are_forgotten(tracking_server):
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("reports with labelled rows")
    found = []
    for first in (100, 200):
        with mlflow.start_run(experiment_id=experiment, tags={"step": "monitor"}) as run:
            batches.log(batch("", rows(first, site="é")).sides)
        found.append(run.info.run_id)
    with mlflow.start_run(experiment_id=experiment, tags={batches.TAG: f"{MODEL}-2"}):
        pass  # that of another project on the same server
    stored = batches.stored()
    assert [one.run_id for one in stored] == found
    assert days(stored[1].sides)["training"] == [200, 202, 204, 206]
    keys = batches.keyed(rows(100, site="é")).index
    assert stored[0].sides["training"].index.tolist() == keys[::2].tolist()
    client.delete_run(found[0])
    assert [one.run_id for one in batches.stored()] == found[1:]
    with pytest.raises(UserError, match=f"Run {found[0]} is deleted.*restore it"):
        batches.stored(found)
    client.delete_experiment(experiment)
    assert batches.stored() == []
