"""Rows and labels are found wherever they are: in the logs of several servers, or in files."""

import json

import numpy as np
import pandas as pd
import pytest
from mlflow.types import ColSpec, Schema

from {{ cookiecutter.__package }} import config
from {{ cookiecutter.__package }}.lifecycle import incoming, requests
from {{ cookiecutter.__package }}.lifecycle.incoming import TARGET, from_file, from_log, labels_of

INPUTS = Schema([ColSpec("double", "a"), ColSpec("long", "n")])
REFERENCE = pd.DataFrame({"a": [0.5, 1.5], "n": [1, 2], TARGET: [0, 1]})


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Return a function that writes requests of one row, by id and time, to a server's log."""
    monkeypatch.setattr(requests, "LOG", tmp_path / "predictions")

    def write(name, *ids_and_times, row=None, run_id="run"):
        lines = [
            json.dumps({
                "id": name_of, "time": f"2026-11-26T10:{minute:02}:00+00:00", "run_id": run_id,
                "type": "application/json",
                "input": json.dumps({"inputs": [row or {"a": minute / 2, "n": minute}]}),
            })
            for name_of, minute in ids_and_times
        ]  # fmt: skip
        with (tmp_path / name).open("a") as file:
            file.write("\n".join(lines) + "\n")

    return write


def labels(tmp_path, *ids, **columns):
    """Return the labels of a file that has `ids`."""
    file = tmp_path / "labels.csv"
    pd.DataFrame({"id": ids, TARGET: [1] * len(ids), **columns}).to_csv(file, index=False)
    return labels_of(file, REFERENCE)


def test_the_logs_of_two_servers_are_merged_by_time(log, tmp_path):
    """The file that was written last is not the one with the newest predictions alone."""
    log("predictions-2.jsonl", ("d", 4), ("f", 6))
    log("predictions-1.jsonl.2", ("a", 1))
    log("predictions-1.jsonl.1", ("b", 2), ("c", 3))
    log("predictions-1.jsonl", ("e", 5), ("g", 7))
    log("predictions-1.jsonl.10", ("0", 0))
    with (tmp_path / "predictions-2.jsonl").open("ab") as file:
        file.write(b'7\n{"id": "cut \xff')
    assert [record["id"] for record in requests.records()] == [*"gfedcba0"]


def test_the_newest_rows_of_this_model_are_taken(log, monkeypatch):
    monkeypatch.setattr(incoming, "ROWS", 2)
    log("predictions-1.jsonl", ("a", 1), ("b", 2))
    log("predictions-2.jsonl", ("c", 3))
    log("predictions-2.jsonl", ("other", 4), run_id="another")
    came = from_log("run", INPUTS, None)
    assert came.live["n"].tolist() == [2, 3] and came.live["n"].dtype == "int64"
    assert came.trouble is None and not came.remarks


def test_labels_reach_behind_the_newest_rows_and_those_without_a_row_are_counted(
    log, tmp_path, monkeypatch
):
    monkeypatch.setattr(incoming, "ROWS", 2)
    monkeypatch.setattr(incoming, "FEWEST", 2)
    log("predictions-1.jsonl", *[(f"id{n}", n) for n in range(10)])
    came = from_log("run", INPUTS, labels(tmp_path, "id0", "id9", "id4", "gone", "lost"))
    assert came.labelled["n"].tolist() == [0, 4, 9] and came.labelled[TARGET].tolist() == [1] * 3
    assert len(came.live) == 2 and came.trouble == ""
    (told,) = came.remarks
    assert "3 of 5 labels" in told and "2 found none" in told


def test_labels_that_cannot_be_used_are_told_and_the_rows_stay(log, tmp_path):
    log("predictions-1.jsonl", ("a", 1))
    came = from_log("run", INPUTS, labels(tmp_path, "x", "y"))
    assert len(came.live) == 1 and "labels 0 of the rows" in came.trouble
    assert "x-prediction-id" in came.trouble
    both = json.dumps({"inputs": [{"a": 1.0, "n": 1}, {"a": 2.0, "n": 2}]})
    record = {"id": "two", "run_id": "run", "type": "application/json", "input": both}
    (tmp_path / "predictions-3.jsonl").write_text(json.dumps(record))
    assert "needs a column row" in from_log("run", INPUTS, labels(tmp_path, "two")).trouble
    came = from_log("run", INPUTS, labels(tmp_path, "two", row=[1]))
    assert "needs a column row" not in came.trouble
    assert came.labelled["n"].tolist() == [2]


def test_rows_that_do_not_fit_are_left_out_and_counted(log, tmp_path):
    """Such as those that an earlier version of the code has answered."""
    log("predictions-1.jsonl", *[(f"id{n}", n) for n in range(5)])
    log("predictions-1.jsonl", ("half", 6), row={"a": 1.0, "n": 10.5})
    log("predictions-1.jsonl", ("less", 7), row={"a": 1.0})
    log("predictions-1.jsonl", ("id7", 8))
    record = {"id": "bad", "run_id": "run", "type": "application/json", "input": "{"}
    with (tmp_path / "predictions-1.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
    came = from_log("run", INPUTS, None)
    assert came.live["n"].tolist() == [0, 1, 2, 3, 4, 8]
    assert came.remarks == ["3 rows of the log do not fit the model: left out."]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_is_read_in_parts_and_its_last_rows_are_kept(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(incoming, "NEWEST", 30)
    monkeypatch.setattr("{{ cookiecutter.__package }}.lifecycle.rows.CHUNK", 7)
    rows = pd.DataFrame({"a": np.arange(50) / 2, "n": range(50), TARGET: [0, None] * 25})
    file = tmp_path / f"rows.{ending}"
    rows.to_csv(file, index=False) if ending == "csv" else rows.to_parquet(file)
    came = from_file(file, INPUTS, REFERENCE, None)
    assert came.live["n"].tolist() == [*range(20, 50)]
    assert came.labelled["n"].tolist() == [*range(0, 50, 2)]
    assert came.labelled[TARGET].dtype == REFERENCE[TARGET].dtype
    assert came.trouble == "" and "has 50 rows: the last 30" in came.remarks[0]
    rows.drop(columns=TARGET).to_csv(tmp_path / "plain.csv", index=False)
    assert from_file(tmp_path / "plain.csv", INPUTS, REFERENCE, None).trouble is None


def test_the_labels_of_a_file_are_those_of_another_file(tmp_path, monkeypatch):
    monkeypatch.setattr("{{ cookiecutter.__package }}.lifecycle.rows.CHUNK", 7)
    monkeypatch.setattr(incoming, "FEWEST", 2)
    rows = pd.DataFrame({"id": [f"id{n}" for n in range(20)], "a": 0.5, "n": range(20)})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    known = labels(tmp_path, "id3", "id17", "gone", "id3")
    came = from_file(tmp_path / "rows.csv", INPUTS, REFERENCE, known)
    assert came.labelled["n"].tolist() == [3, 17] and len(came.live) == 20
    assert "2 of 3 labels" in came.remarks[0]


def test_files_that_are_no_labels_are_refused_in_a_sentence(tmp_path):
    file = tmp_path / "labels.csv"
    for content, told in {
        f"number,{TARGET}\n1,1\n": "labels.csv lacks the column id.",
        f"id,{TARGET}\n": "labels.csv has no rows",
        f"id,{TARGET}\na,1\nb,maybe\n": "row 2",
    }.items():
        file.write_text(content)
        with pytest.raises(config.UserError, match=told):
            labels_of(file, REFERENCE)
    file.write_text("a,n\n1,1\n")
    rows = pd.DataFrame({"id": ["x"], TARGET: [1]})
    rows.to_csv(tmp_path / "good.csv", index=False)
    known = labels_of(tmp_path / "good.csv", REFERENCE)
    with pytest.raises(config.UserError, match="lacks the column id"):
        from_file(file, INPUTS, REFERENCE, known)
