"""Move the tables of a history from SQLite to PostgreSQL, and compare what has arrived.

What PostgreSQL says of its tables decides: columns, types, lengths. Values go as SQLite has
them, and PostgreSQL's own input functions read them: nothing is parsed on the way.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from psycopg import Connection, ServerCursor

MODULUS = 1 << 64
AT_ONCE = 5000  # rows
# Rows that MLflow makes in an empty database.
OWN_ROWS = {"workspaces": "true", "experiments": "experiment_id = 0"}
REVISIONS = ("alembic_version", "alembic_version_auth")
INTEGERS = {"smallint": 15, "integer": 31, "bigint": 63}  # bits
# Types whose values psycopg returns as sqlite3 does; those of others are cast, a date to text.
ALIKE = (*INTEGERS, "double precision", "bytea", "text", "character varying")


class Column(NamedTuple):
    """A column of PostgreSQL's: its type, its longest text, and whether it can be empty."""

    name: str
    kind: str
    length: int | None
    nullable: bool
    generated: bool

    def in_the_form_of_sqlite(self) -> str:
        """Return the SQL that reads the column from PostgreSQL as SQLite has it."""
        cast = "" if self.kind in ALIKE else "::int" if self.kind == "boolean" else "::text"
        return f'"{self.name}"{cast}'


class Table(NamedTuple):
    """A table that both sides have; columns that PostgreSQL generates are the last ones."""

    name: str
    columns: list[Column]
    key: list[str]


class Content(NamedTuple):
    """The number of rows of a table, and the sum of their hashes, whatever their order."""

    rows: int
    digest: int


def tables(source: sqlite3.Connection, target: "Connection") -> list[Table]:
    """Return the tables that both sides have."""
    names = {
        name for (name,) in source.execute("SELECT name FROM sqlite_master WHERE type='table'")
    }
    columns: dict[str, list[Column]] = {}
    for name, *column in target.execute(
        """SELECT table_name, column_name, data_type, character_maximum_length,
            is_nullable = 'YES', is_generated = 'ALWAYS' FROM information_schema.columns
            WHERE table_schema = 'public' ORDER BY table_name, is_generated = 'ALWAYS',
            ordinal_position"""
    ):
        columns.setdefault(name, []).append(Column(*column))
    keys: dict[str, list[str]] = {}
    for name, column in target.execute(
        """SELECT i.indrelid::regclass::text, a.attname FROM pg_index i JOIN pg_attribute a
            ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) WHERE i.indisprimary"""
    ):
        keys.setdefault(name, []).append(column)
    both = sorted(names & columns.keys() - {*REVISIONS})
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
    faults, asked = [], []
    for column in table.columns:
        for reason, condition in conditions(column).items():
            where = condition.replace("?", f'"{column.name}"')
            asked += [f"{what} FILTER (WHERE {where})" for what in ("count(*)", f"min({key})")]
            faults.append((column.name, reason))
    if not asked:
        return
    found = source.execute(f'SELECT {", ".join(asked)} FROM "{table.name}"').fetchone()
    for (name, reason), count, first in zip(faults, found[::2], found[1::2], strict=True):
        if count:
            yield f"{table.name}.{name}: {count} {reason} (first: {first})"


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


@contextmanager
def without_foreign_keys(target: "Connection", both: list[Table]) -> Iterator[None]:
    """Drop the foreign keys of tables while the block runs, then make them again.

    That checks all rows at once; to check each when it is inserted takes a third of a move.
    """
    found = target.execute(
        """SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid)
            FROM pg_constraint WHERE contype = 'f' AND conrelid::regclass::text = ANY(%s)""",
        [[table.name for table in both]],
    ).fetchall()
    for table, name, _ in found:
        target.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    yield
    for table, name, definition in found:
        target.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")


def copy(
    source: sqlite3.Connection, target: "Connection", table: Table, seen: Callable[[int], None]
) -> Content:
    """Copy the rows of a table; return what was read. `seen` is told how many were copied."""
    names = [f'"{column.name}"' for column in table.columns]
    given = sum(not column.generated for column in table.columns)
    listed, every = ", ".join(names[:given]), ", ".join(names)
    with target.cursor().copy(f'COPY "{table.name}" ({listed}) FROM STDIN') as stream:

        def copied() -> Iterator[list[tuple]]:
            for rows in batches(source.execute(f'SELECT {every} FROM "{table.name}"')):
                for row in rows:
                    stream.write_row(row[:given])
                seen(len(rows))
                yield rows

        return sum_up(copied())


def content(target: "Connection", table: Table) -> Content:
    """Return the content of a table of PostgreSQL's, in constant memory."""
    listed = ", ".join(column.in_the_form_of_sqlite() for column in table.columns)
    with target.cursor(name="content", binary=True) as cursor:
        return sum_up(batches(cursor.execute(f'SELECT {listed} FROM "{table.name}"')))


def batches(cursor: "sqlite3.Cursor | ServerCursor") -> Iterator[list[tuple]]:
    """Yield the rows of a query, some thousands at once."""
    while rows := cursor.fetchmany(AT_ONCE):
        yield rows


def sum_up(batches: Iterable[list[tuple]]) -> Content:
    """Return the content of rows that come in batches.

    The hash of a row is Python's own of its text: 64 bits, with a key of this process.
    """
    count = total = 0
    for rows in batches:
        count += len(rows)
        total += sum(map(hash, map(repr, rows)))
    return Content(count, total % MODULUS)


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
