"""Move the tables of a history from SQLite to PostgreSQL, and compare what has arrived.

What PostgreSQL says of its tables decides: columns, types, lengths, order. Values go as SQLite has
them, and PostgreSQL's own input functions read them: nothing is parsed on the way.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from psycopg import Connection

MODULUS = 1 << 128
AT_ONCE = 5000  # rows that are read from PostgreSQL
# Rows that MLflow makes in an empty database.
OWN_ROWS = {"workspaces": "true", "experiments": "experiment_id = 0"}
REVISIONS = ("alembic_version", "alembic_version_auth")
INTEGERS = {"smallint": 15, "integer": 31, "bigint": 63}  # bits
# A value of SQLite's, by PostgreSQL's type, in the form in which both sides are compared.
CANONICAL: dict[str, Callable] = {
    "boolean": bool,
    "bytea": lambda value: bytes(value).hex(),
    "double precision": lambda value: float(value).hex(),
    **dict.fromkeys(INTEGERS, int),
}
AS_TEXT = ("json", "jsonb", "date", "timestamp without time zone")


class Column(NamedTuple):
    """A column of PostgreSQL's: its type, its longest text, and whether it can be empty."""

    name: str
    kind: str
    length: int | None
    nullable: bool
    generated: bool


class Table(NamedTuple):
    """A table that both sides have."""

    name: str
    columns: list[Column]
    key: list[str]

    def forms(self) -> list[Callable]:
        """Return what brings the value of each column into the form that both sides compare."""
        return [CANONICAL.get(column.kind, str) for column in self.columns]


class Content(NamedTuple):
    """The number of rows of a table, and the sum of their hashes, whatever their order."""

    rows: int
    digest: int


def tables(source: sqlite3.Connection, target: "Connection") -> list[Table]:
    """Return the tables of both sides, each after those that it refers to."""
    names = {
        name for (name,) in source.execute("SELECT name FROM sqlite_master WHERE type='table'")
    }
    columns: dict[str, list[Column]] = {}
    for name, *column in target.execute(
        """SELECT table_name, column_name, data_type, character_maximum_length,
            is_nullable = 'YES', is_generated = 'ALWAYS' FROM information_schema.columns
            WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"""
    ):
        columns.setdefault(name, []).append(Column(*column))
    refers = target.execute(
        """SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint
            WHERE contype = 'f' AND conrelid <> confrelid"""
    )
    order: TopologicalSorter = TopologicalSorter(dict.fromkeys(sorted(columns), ()))
    for name, other in refers:
        order.add(name, other)
    keys: dict[str, list[str]] = {}
    for name, column in target.execute(
        """SELECT i.indrelid::regclass::text, a.attname FROM pg_index i JOIN pg_attribute a
            ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) WHERE i.indisprimary"""
    ):
        keys.setdefault(name, []).append(column)
    both = [name for name in order.static_order() if name in names and name not in REVISIONS]
    return [Table(name, columns[name], keys.get(name, [])) for name in both]


def left_behind(source: sqlite3.Connection, both: list[Table]) -> list[str]:
    """Return the tables with rows that the target lacks: those of logins, which it makes anew."""
    sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    moved = {table.name for table in both} | {*REVISIONS}
    names = sorted({name for (name,) in source.execute(sql)} - moved)
    return [name for name in names if source.execute(f'SELECT 1 FROM "{name}"').fetchone()]


def unheld(source: sqlite3.Connection, table: Table) -> Iterator[str]:
    """Yield what PostgreSQL cannot hold: column, reason, number of values, and the first row."""
    key = " || ', ' || ".join(f'"{name}"' for name in table.key) or "rowid"
    for column in table.columns:
        for reason, condition in conditions(column).items():
            where = condition.replace("?", f'"{column.name}"')
            sql = f'SELECT count(*), min({key}) FROM "{table.name}" WHERE {where}'
            count, first = source.execute(sql).fetchone()
            if count:
                yield f"{table.name}.{column.name}: {count} {reason} (first: {first})"


def conditions(column: Column) -> dict[str, str]:
    """Return what values of a column PostgreSQL refuses, as SQLite's conditions on `?`."""
    found = {} if column.nullable else {"missing": "? IS NULL"}
    if bits := INTEGERS.get(column.kind):
        large = f"? > {(1 << bits) - 1} OR ? < {-(1 << bits)}"
        return found | {"no whole number or too large": f"typeof(?) <> 'integer' AND ? NOT NULL "
                        f"OR {large}"}  # fmt: skip
    match column.kind:
        case "boolean":
            return found | {"neither 0 nor 1": "? NOT IN (0, 1)"}
        case "double precision":
            return found | {"not a number": "typeof(?) NOT IN ('real', 'integer', 'null')"}
        case "bytea":
            return found
        case "json" | "jsonb":
            found["not valid as JSON"] = "NOT json_valid(?)"
        case "date":
            found["not a date"] = "date(?) IS NOT ? AND ? NOT NULL"
    found["with a NUL character"] = "instr(CAST(? AS BLOB), x'00')"
    if column.length:
        found[f"longer than {column.length} characters"] = f"length(?) > {column.length}"
    return found


def occupied(target: "Connection", table: Table) -> int:
    """Return how many rows a table has that MLflow did not make by itself."""
    own = OWN_ROWS.get(table.name, "false")
    found = target.execute(f'SELECT count(*) FROM "{table.name}" WHERE NOT ({own})').fetchone()
    return found[0] if found else 0


def copy(
    source: sqlite3.Connection, target: "Connection", table: Table, seen: Callable[[int], None]
) -> Content:
    """Copy the rows of a table; return what was read. `seen` is told how many were copied."""
    every = ", ".join(f'"{column.name}"' for column in table.columns)
    given = [n for n, column in enumerate(table.columns) if not column.generated]
    listed = ", ".join(f'"{table.columns[n].name}"' for n in given)
    with target.cursor().copy(f'COPY "{table.name}" ({listed}) FROM STDIN') as stream:

        def copied() -> Iterator[tuple]:
            for number, row in enumerate(source.execute(f'SELECT {every} FROM "{table.name}"'), 1):
                stream.write_row([row[n] for n in given])
                if number % AT_ONCE == 0:
                    seen(AT_ONCE)
                yield row

        found = sum_up(copied(), table.forms())
    seen(found.rows % AT_ONCE)
    return found


def content(target: "Connection", table: Table) -> Content:
    """Return the content of a table of PostgreSQL's, in constant memory."""
    listed = ", ".join(
        f'"{column.name}"' + ("::text" if column.kind in AS_TEXT else "")
        for column in table.columns
    )
    with target.cursor(name="content") as cursor:
        cursor.itersize = AT_ONCE
        return sum_up(cursor.execute(f'SELECT {listed} FROM "{table.name}"'), table.forms())


def sum_up(rows: Iterable[tuple], canonical: list[Callable]) -> Content:
    """Return the content of rows."""
    count = total = 0
    for row in rows:
        total += hashed(row, canonical)
        count += 1
    return Content(count, total % MODULUS)


def hashed(row: tuple, canonical: list[Callable]) -> int:
    """Return the hash of a row, each value in its canonical form."""
    values = [None if one is None else form(one) for one, form in zip(row, canonical, strict=True)]
    return int.from_bytes(hashlib.blake2b(repr(values).encode(), digest_size=16).digest())


def continue_sequences(target: "Connection", table: Table) -> None:
    """Let the numbers that PostgreSQL gives to new rows go on after those that were copied."""
    for column in table.columns:
        if column.kind in INTEGERS:
            target.execute(
                f"""SELECT setval(sequence, coalesce(
                        (SELECT max("{column.name}") FROM "{table.name}"), 0) + 1, false)
                    FROM pg_get_serial_sequence(%s, %s) AS sequence WHERE sequence IS NOT NULL""",
                [f'"{table.name}"', column.name],
            )
