"""The log of served predictions: rotated, read from its newest line on, several servers in one."""

import base64
import json

import pytest

from {{ cookiecutter.__package }}.lifecycle import requests


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes records, given by their time, into the log of a port."""
    monkeypatch.setattr(requests, "LOG", tmp_path / "serving" / "predictions")
    monkeypatch.setattr(requests, "LOG_BYTES", 200)
    monkeypatch.setattr(requests, "LOG_FILES", 3)
    logs = []

    def write(port, *times):
        logs.append(log := requests.prediction_log(port, print))
        for time in times:
            log.info(json.dumps({"time": f"{time:04}", "more": "x" * 40}))
        for handler in log.handlers[:]:
            log.removeHandler(handler)
            handler.close()

    return write


def times():
    return [int(record["time"]) for record in requests.records()]


def test_it_is_rotated_and_read_from_its_newest_line_on(write):
    write(1, *range(40))
    assert len(list(requests.LOG.parent.iterdir())) == 4
    kept = times()
    assert kept == list(range(39, 39 - len(kept), -1)) and 7 <= len(kept) < 40


def test_the_logs_of_two_servers_are_merged_by_time(write):
    write(1, 1, 4, 5)
    write(22, 2, 3, 6)
    assert times() == [6, 5, 4, 3, 2, 1]


def test_a_line_that_a_crash_has_cut_is_ended_and_skipped(write):
    write(1, 1)
    file = requests.LOG.with_name("predictions-1.jsonl")
    with file.open("a") as kept:
        kept.write('{"time": "00')
    write(1, 2)
    assert times() == [2, 1] and file.read_text().splitlines()[1] == '{"time": "00'


def test_a_request_is_kept_as_it_was_sent():
    for body in (b"\xef\xbb\xbfa,b\n1,\n", b'{"inputs": 1}'):
        assert requests.text_of("text/csv", body).encode() == body
    parquet = "application/vnd.apache.parquet"
    assert base64.b64decode(requests.text_of(parquet, b"\xff\0")) == b"\xff\0"
    assert requests.rows_of("text/csv", "\ufeffa,b\n1,\n") == [{"a": "1", "b": ""}]
    given = json.dumps({"inputs": [2**53 + 1, None]})
    assert requests.rows_of("application/json", given, ["a"]) == [{"a": 2**53 + 1}, {"a": None}]
