"""A history that a team shares: its database in PostgreSQL, its files in an object store.

Passwords come from the environment of the server, as libpq and boto3 read them: PGPASSWORD, AWS_*.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..config import UserError, from_shell, how_to_fix, set_by_shell, setting
from . import history, upgrade
from .addresses import EVERYWHERE, LOOPBACK, check_login, listens
from .shell import install_extra, one_line

if TYPE_CHECKING:
    from psycopg import Connection

STORE, DESTINATION = "MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION"
STORES = (STORE, DESTINATION)
POSTGRES = "postgresql"
CONNECT_SECONDS = 5  # MLflow itself retries in silence for 100 s
LOCK = 0x6D6C666C6F77  # "mlflow": one server at a time makes or upgrades the tables
GUIDE = "docs/team-server of the template says how"


def is_shared() -> bool:
    """Return whether the database of the history is PostgreSQL."""
    return setting(STORE).startswith("postgres")


def elsewhere() -> str:
    """Return where the history is if it is not in files of this project's, else "".

    That is the address of another machine's server, or the database without its password.
    """
    uri = setting("MLFLOW_TRACKING_URI").rstrip("/")
    own = {*LOOPBACK, EVERYWHERE, setting("MLFLOW_HOST"), None}
    if urlsplit(uri).hostname not in own:
        return uri
    return shown(setting(STORE)) if is_shared() else ""


def refuse_elsewhere(what: str) -> None:
    """Raise `UserError` if the history is elsewhere, where `what` is done by other means."""
    if place := elsewhere():
        raise UserError(
            f"The history is at {place}, not in files of this project: {what} is done there, with "
            f"pg_dump and the tools of the object store; {GUIDE}."
        )


def shown(uri: str) -> str:
    """Return the address of a database or a store without its password."""
    place = urlsplit(uri)
    user = f"{place.username}@" if place.username else ""
    host = place.netloc.rpartition("@")[2]
    return place._replace(netloc=user + host, query="").geturl()


def with_driver(uri: str) -> str:
    """Return a PostgreSQL address for SQLAlchemy, whose default driver depends on its version."""
    return f"postgresql+psycopg://{uri.partition('://')[2]}"


def check_address(uri: str) -> None:
    """Raise `UserError` if the address of a database is not one, or has a password in it."""
    name = STORE if uri == setting(STORE) else "--to"
    remedy = how_to_fix(STORE) if name == STORE else "correct it"
    kind = uri.partition("://")[0].partition("+")[0]
    if kind != POSTGRES or not urlsplit(uri).path.strip("/"):
        raise UserError(
            f"{name} is {shown(uri)}, not of the form postgresql://USER@HOST/DATABASE: {remedy}."
        )
    if urlsplit(uri).password and not (name == STORE and set_by_shell(STORE)):
        raise UserError(
            f"{name} has a password, which others can read: leave it out, and set PGPASSWORD in "
            "the environment."
        )


def connect(uri: str, **options) -> "Connection":
    """Return a connection to a PostgreSQL database; raise `UserError` if there is none."""
    check_address(uri)
    try:
        import psycopg
    except ImportError as error:
        line = install_extra("shared")
        raise UserError(f"A history in PostgreSQL needs psycopg: type {line}") from error
    plain = f"postgresql://{uri.partition('://')[2]}"
    try:
        return psycopg.connect(plain, connect_timeout=CONNECT_SECONDS, **options)
    except (psycopg.Error, UnicodeError) as error:
        raise UserError(
            f"{shown(uri)} cannot be opened ({one_line(error)}): check the address, PGPASSWORD, "
            "and whether PostgreSQL runs."
        ) from error


@contextmanager
def upgrading(uri: str) -> Iterator["Connection"]:
    """Yield a connection to a database that has MLflow's tables, as the installed MLflow has them.

    One process at a time makes or upgrades them: two of MLflow's own would disturb each other.
    Raises `UserError` if the tables cannot be made, or if a newer MLflow made them.
    """
    with connect(uri, autocommit=True) as connection:
        check_rights(connection, uri)
        if connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK]).fetchone() != (True,):
            print("Waiting for another server that starts", flush=True)
            connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        if steps := steps_behind(connection, uri):
            print(f"{'Upgrading' if revision(connection) else 'Preparing'} {shown(uri)}")
            done, said = upgrade.migrate(with_driver(uri), steps)
            if not done or steps_behind(connection, uri):
                raise UserError(f"{shown(uri)} could not be prepared: {said}")
        yield connection


def check_rights(connection: "Connection", uri: str) -> None:
    """Raise `UserError` if a role may not make tables, or if the database is not in UTF-8."""
    sql = """SELECT has_schema_privilege('public', 'CREATE'), current_user, current_database(),
        current_setting('server_encoding')"""
    for allowed, role, name, encoding in connection.execute(sql):
        if not allowed:
            raise UserError(
                f"The role {role} may not make tables in {shown(uri)}: make it the owner, with "
                f'ALTER DATABASE "{name}" OWNER TO "{role}"'
            )
        if encoding != "UTF8":
            raise UserError(f"{shown(uri)} is in {encoding}: make a database with ENCODING 'UTF8'.")


def revision(connection: "Connection") -> str:
    """Return the schema revision of a database; "" if it has no tables of MLflow's."""
    table = connection.execute("SELECT to_regclass('alembic_version')").fetchone()
    if not table or not table[0]:
        return ""
    found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return found[0] if found else ""


def steps_behind(connection: "Connection", uri: str) -> int:
    """Return the number of migrations that a database needs."""
    return history.steps_from(revision(connection), shown(uri))


def probe(destination: str) -> None:
    """Put a file into a store of artifacts, get it, and delete it; raise `UserError` on failure.

    MLflow finds out at the first run only. This imports it.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    name = f"probe-{uuid.uuid4().hex}"
    try:
        with TemporaryDirectory() as folder:
            Path(folder, name).write_text(name, encoding="utf-8")
            store = get_artifact_repository(destination)
            store.log_artifact(f"{folder}/{name}")
            Path(folder, name).unlink()
            returned = Path(store.download_artifacts(name, folder)).read_text("utf-8")
            store.delete_artifacts(name)
    except ImportError as error:
        line = install_extra("shared")
        raise UserError(f"{destination} needs {error.name}: type {line}") from error
    except Exception as error:  # each kind of store has its own
        raise UserError(
            f"A test file could not be put into {destination} and back ({one_line(error)}): check "
            "the bucket, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and MLFLOW_S3_ENDPOINT_URL."
        ) from error
    if returned != name:
        raise UserError(f"{destination} returned another file than the one that was put there.")


def shared_history() -> Iterator[tuple]:
    """Yield doctor's findings on a history that is elsewhere."""
    uri = setting("MLFLOW_TRACKING_URI").rstrip("/")
    place = elsewhere()
    if place != uri:
        with connect(setting(STORE)) as connection:
            behind = steps_behind(connection, place)
        if "://" in setting(DESTINATION):
            probe(setting(DESTINATION))
        remedy = "start-server upgrades it: stop its servers and back it up first" if behind else ""
        state = "warning" if behind else "ok"
        yield state, f"{place} and {setting(DESTINATION)} can be written to", remedy
    if not listens(uri):
        yield "wrong", f"no server answers at {uri}{from_shell('MLFLOW_TRACKING_URI')}"
        return
    check_login(uri)
    yield "ok", f"{uri} answers; backups are made there: {GUIDE}"
