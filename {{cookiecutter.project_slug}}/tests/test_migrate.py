"""What PostgreSQL cannot hold, and how what arrived is compared; the servers are the template's."""

import sqlite3
from contextlib import closing
from unittest.mock import MagicMock

import pytest

from {{ cookiecutter.__package }}.config import UserError
from {{ cookiecutter.__package }}.ops import (
    history,
    migrate,
    objects,
    shared,
    tables,
)

Column = tables.Column


@pytest.fixture
def database():
    with closing(sqlite3.connect(":memory:")) as opened:
        yield opened


@pytest.mark.parametrize(
    ("column", "good", "bad", "reason"),
    [
        (Column("c", "text", None, True, False), "a\tb 🚀", "a\0b", "with a NUL character"),
        (Column("c", "character varying", 3, True, False), "ñññ", "four", "longer than 3"),
        (Column("c", "integer", None, True, False), -(2**31), 2**31, "too large"),
        (Column("c", "bigint", None, True, False), 2**63 - 1, "two", "no whole number"),
        (Column("c", "boolean", None, True, False), 1, 2, "neither 0 nor 1"),
        (Column("c", "double precision", None, True, False), 5e-324, "x", "not a number"),
        (Column("c", "json", None, True, False), '{"a": 1}', '{"a": NaN}', "not valid as JSON"),
        (Column("c", "date", None, True, False), "2026-11-26", "26.11.2026", "not a date"),
        (Column("c", "text", None, False, False), "", None, "missing"),
    ],
    ids=lambda value: value.kind if isinstance(value, Column) else None,
)
def test_what_cannot_be_held_is_named_with_its_row(database, column, good, bad, reason):
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, c)")
    database.executemany("INSERT INTO t VALUES (?, ?)", [(1, good), (2, bad), (3, bad)])
    (told,) = tables.unheld(database, tables.Table("t", [column], ["id"]))
    assert told.startswith("t.c: 2 ") and reason in told and told.endswith("(first: 2)")


def test_a_column_that_postgresql_generates_is_not_written_but_compared(database):
    given = ("bigint", None, True, False)
    database.execute("CREATE TABLE t (id INTEGER, twice INTEGER)")
    database.executemany("INSERT INTO t VALUES (?, ?)", rows := [(1, 2), (2, 4)])
    columns = [Column(*one) for one in (("id", *given), ("twice", *given[:-1], True))]
    target, seen = MagicMock(), []
    stream = target.cursor().copy().__enter__()
    read = tables.copy(database, target, tables.Table("t", columns, ["id"]), seen.append)
    assert [call.args[0] for call in stream.write_row.call_args_list] == [(1,), (2,)]
    assert read == tables.sum_up([rows]) != tables.sum_up([[(1, 2), (2, 5)]]) and seen == [2]


def test_rows_are_equal_in_any_order_and_a_changed_one_is_found():
    here = [(1, b"\0a", -1, 0.0, "x"), (0, None, None, 0.5, "y")]
    found = tables.sum_up([here])
    assert found.rows == 2 and found == tables.sum_up([here[1:], here[:1]])
    for place, value in enumerate((0, b"\0b", -2, -0.0, "x ")):
        changed = (*here[0][:place], value, *here[0][place + 1 :])
        assert tables.sum_up([[changed, here[1]]]) != found
    swapped = [(1, None, None, 0.5, "y"), (0, b"\0a", -1, 0.0, "x")]
    assert tables.sum_up([swapped]) != found


def test_files_are_sent_once_and_compared_each_time(tmp_path, monkeypatch):
    source, target = tmp_path / "a", tmp_path / "b"
    for name in ("1/run/artifacts/note ñ.txt", ".owner/proof", "top.txt"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    target.mkdir()
    seen, told = [], len("1/run/artifacts/note ñ.txt".encode()) + len("top.txt")
    assert objects.copy_files(source, str(target), seen.append) == 2
    assert sum(seen) == told
    assert not (target / ".owner").exists()
    assert objects.copy_files(source, str(target), seen.append) == 0
    (target / "top.txt").write_text("TOP.txt")  # as long as before
    with pytest.raises(UserError, match="top.txt came back from .* with another content"):
        objects.copy_files(source, str(target), seen.append)


@pytest.fixture
def elsewhere(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org/")


def test_what_is_done_to_a_history_elsewhere_is_said(elsewhere):
    assert shared.elsewhere() == "https://mlflow.example.org"
    with pytest.raises(UserError, match="is at https://mlflow.example.org, not in files of this"):
        migrate.migrate("postgresql://me@host/mlflow")


def test_only_a_sound_address_without_a_password_will_do(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(UserError, match="There is no history to move"):
        migrate.migrate("postgresql://me@host/mlflow")
    with pytest.raises(UserError, match="migrate goes from SQLite to PostgreSQL only"):
        migrate.migrate("sqlite:///other.db")
    for address in ("postgres://me@host/mlflow", "postgresql://me@host", "mysql://me@host/mlflow"):
        with pytest.raises(UserError, match="not of the form postgresql://USER@HOST/DATABASE"):
            shared.check_address(address)
    with pytest.raises(UserError, match="has a password, which others can read") as told:
        shared.check_address("postgresql://me:secret@host/mlflow")
    assert "secret" not in str(told.value)
    assert shared.shown("postgresql://me:secret@host:5/m?sslmode=x") == "postgresql://me@host:5/m"
    assert shared.with_driver("postgresql://h/m") == "postgresql+psycopg://h/m"
    assert history.steps_from("", "it") == len(history.migrations())


def test_files_in_another_place_are_refused(database):
    for name, column in migrate.LOCATIONS.items():
        database.execute(f"CREATE TABLE {name} ({column})")
        database.execute(f"INSERT INTO {name} VALUES ('mlflow-artifacts:/1'), (NULL), ('dummy')")
    migrate.check_places(database)
    database.execute("INSERT INTO runs VALUES ('/home/me/mlruns/1')")
    with pytest.raises(UserError, match="files of 1 row of runs are in another place"):
        migrate.check_places(database)
