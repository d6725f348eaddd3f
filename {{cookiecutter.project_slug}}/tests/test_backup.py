"""A backup is whole or refused, and a restore replaces the history or changes nothing."""

import io
import json
import os
import re
import tarfile
from pathlib import Path

import pytest
from conftest import add_run, content, write
from typer.testing import CliRunner

from {{ cookiecutter.__package }} import cli, config
from {{ cookiecutter.__package }}.config import UserError
from {{ cookiecutter.__package }}.ops import (
    backup,
    history,
    ownership,
    upgrade,
)


@pytest.fixture
def kept(project):
    """Return a project whose history has one run with two files, and its backup."""
    add_run(project, "a1", files=2, tag="2")
    mine = project / "tracking" / "artifacts" / "1" / "a1" / "artifacts" / ".owner" / "me.txt"
    mine.parent.mkdir()
    mine.write_text("a user's, though it looks like ours")
    return project, backup.backup()


def runs(project: Path) -> int | None:
    return history.runs_in_database(project / "tracking" / "mlflow.db")


def test_a_restored_history_is_that_of_the_backup_and_the_other_is_kept(kept, capsys):
    project, file = kept
    wanted = content(project)
    add_run(project, "b2", files=1, tag="1")
    journal = project / "tracking" / "mlflow.db-journal"
    journal.write_bytes(b"left by a crash")
    before = content(project)
    backup.restore(file)
    (folder,) = (project / "tracking").glob("replaced-*")
    now, aside = content(project), f"tracking/{folder.name}/"
    replaced = {name.replace(aside, "tracking/"): now.pop(name) for name in [*now] if aside in name}
    assert replaced == before
    del now["tracking/mlflow.db"], wanted["tracking/mlflow.db"]  # it was copied page by page
    assert now == wanted and runs(project) == 1
    told = capsys.readouterr().out
    assert ": 1 run, backed up at 20" in told and f"Before   {folder}" in told
    if os.name == "posix":
        assert history.database().stat().st_mode & 0o077 == 0


def test_a_backup_holds_a_consistent_copy_and_says_so(kept, capsys):
    project, first = kept
    file = backup.backup()
    told = capsys.readouterr().out
    assert f"Backup   {file}\nHolds    1 run, 4 files, " in told
    manifest = backup.unpack(file, "Reading")
    assert manifest["rows"] == history.row_counts(history.database())
    assert os.name != "posix" or not file.stat().st_mode & 0o077
    assert history.known_backups() == [first, file]
    assert {path.name for path in file.parent.iterdir()} == {first.name, file.name}


def test_files_that_change_or_vanish_meanwhile_are_no_trouble(kept, monkeypatch):
    project, _ = kept
    folder = project / "tracking" / "artifacts" / "1" / "a1" / "artifacts" / "data"
    add, transfer, read = backup.add, backup.transfer, []

    def adding(archive, name, file, tick):
        if file.parent == folder and not read:
            read.append(name)
            (folder / ("1.txt" if file.name == "0.txt" else "0.txt")).unlink()
            monkeypatch.setattr(backup, "transfer", writing)
        return add(archive, name, file, tick)

    def writing(source, target, tick=id):
        found = transfer(source, target, tick)
        Path(source.name).write_text("written while it was read", encoding="utf-8")
        monkeypatch.setattr(backup, "transfer", transfer)
        return found

    monkeypatch.setattr(backup, "add", adding)
    file = backup.backup()
    with tarfile.open(file) as archive:
        assert [name for name in archive.getnames() if "/data/" in name] == read
        assert archive.extractfile(read[0]).read() == b"written while it was read"


def test_what_is_there_is_not_written_over(kept):
    project, file = kept
    with pytest.raises(UserError, match="already exists: name another file"):
        backup.backup(file)
    inside = history.artifacts() / "new.tar.gz"
    with pytest.raises(UserError, match="is in the artifact folder: name another file"):
        backup.backup(inside)
    (project / "tracking" / "mlflow.db").unlink()
    with pytest.raises(UserError, match="There is no history to back up"):
        backup.backup()


def test_a_backup_that_cannot_be_written_leaves_nothing(kept, tmp_path, monkeypatch):
    def pack(part, copy):
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup, "pack", pack)
    place = tmp_path / "usb disk"
    place.mkdir()
    with pytest.raises(UserError, match="cannot be written: .*No space left"):
        backup.backup(place)
    assert not [*place.iterdir()]


def test_a_backup_in_a_place_that_was_named_is_known_later(kept, tmp_path):
    project, first = kept
    place = tmp_path / "usb disk"
    place.mkdir()
    file = backup.backup(place)
    os.utime(first, (1, 1))
    (project / "tracking" / "mlflow.db").write_bytes(b"damaged" * 1000)
    with pytest.raises(UserError, match="restore it with: ") as error:
        upgrade.prepare()
    assert str(file) in str(error.value)


# What is no backup


def rewritten(source: Path, target: Path, change) -> None:
    """Write an archive like `source`, its members changed by `change`."""
    with tarfile.open(source) as old, tarfile.open(target, "w:gz") as new:
        for member in old:
            for other, text in change(member, old.extractfile(member).read()):
                other.size = len(text)
                new.addfile(other, io.BytesIO(text))


def with_member(name: str, **values):
    """Return a change that adds a member to an archive."""

    def change(member, text):
        added = tarfile.TarInfo(name)
        for key, value in values.items():
            setattr(added, key, value)
        return [(member, text), (added, b"evil")]

    return lambda good, bad: rewritten(good, bad, change)


def with_manifest(**values):
    """Return a change of the manifest; None removes an entry."""

    def change(member, text):
        if member.name == "manifest.json":
            entries = json.loads(text) | values
            text = json.dumps({k: v for k, v in entries.items() if v is not None}).encode()
        return [(member, text)]

    return lambda good, bad: rewritten(good, bad, change)


def without(ending: str):
    return lambda good, bad: rewritten(
        good, bad, lambda m, text: [] if m.name.endswith(ending) else [(m, text)]
    )


def flipped(good: Path, bad: Path) -> None:
    text = bytearray(good.read_bytes())
    text[len(text) // 2] ^= 255
    bad.write_bytes(text)


BAD = {
    "cut": lambda good, bad: bad.write_bytes(good.read_bytes()[:-100]),
    "half": lambda good, bad: bad.write_bytes(good.read_bytes()[: good.stat().st_size // 2]),
    "flipped": flipped,
    "no archive": lambda good, bad: bad.write_text("hello"),
    "empty": lambda good, bad: bad.touch(),
    "foreign": lambda good, bad: rewritten(good, bad, lambda m, t: [(tarfile.TarInfo("a.txt"), t)]),
    "no manifest": without("manifest.json"),
    "no database": without("mlflow.db"),
    "one missing": without("1.txt"),
    "other bytes": lambda good, bad: rewritten(
        good, bad, lambda m, t: [(m, t + b"x" if m.name.endswith(".txt") else t)]
    ),
    "..": with_member("artifacts/../../evil"),
    "absolute": with_member("/tmp/evil"),
    "link": with_member("artifacts/l", type=tarfile.SYMTYPE, linkname="/etc"),
    "hard link": with_member("artifacts/l", type=tarfile.LNKTYPE, linkname="/etc/hosts"),
    "another project's": with_manifest(project="other"),
    "an older form": with_manifest(created=None),
    "other rows": with_manifest(rows={"runs": 7}),
    "no dictionary": lambda good, bad: rewritten(
        good, bad, lambda m, t: [(m, b"[1]" if m.name == "manifest.json" else t)]
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_backup_is_refused_and_the_history_untouched(kept, tmp_path, name):
    project, good = kept
    before, bad = content(project), tmp_path / "bad.tar.gz"
    BAD[name](good, bad)
    around = {path for path in tmp_path.rglob("*") if "tracking" not in path.parts}
    with pytest.raises(UserError, match=f"{bad} is not a complete backup: ") as error:
        backup.restore(bad)
    assert content(project) == before
    assert re.search(r" [\w -]+\.$", str(error.value)), "words, not the name of a key"
    assert {path for path in tmp_path.rglob("*") if "tracking" not in path.parts} == around
    backup.restore(good)
    assert runs(project) == 1


def test_a_backup_of_a_newer_mlflow_is_refused(kept):
    project, _ = kept
    database = project / "tracking" / "mlflow.db"
    kept_schema = history.schema(database)
    write(database, "UPDATE alembic_version SET version_num = 'ffff00001111'")
    newer = backup.backup()
    write(database, f"UPDATE alembic_version SET version_num = '{kept_schema}'")
    before = content(project)
    with pytest.raises(UserError, match=f"{newer} was written by a newer MLflow"):
        backup.restore(newer)
    assert content(project) == before


def test_a_file_that_is_not_there_and_a_history_in_use_are_told(kept, monkeypatch):
    project, file = kept
    with pytest.raises(UserError, match="There is no backup nothing.tar.gz"):
        backup.restore(Path("nothing.tar.gz"))
    monkeypatch.setattr(ownership, "in_use", lambda: "This history's server runs")
    done = CliRunner().invoke(cli.app, ["restore", str(file)])
    assert str(done.exception) == "This history's server runs"
    monkeypatch.setattr(ownership, "in_use", str)
    assert CliRunner().invoke(cli.app, ["restore", str(file)]).exit_code == 0
    assert CliRunner().invoke(cli.app, ["backup", str(project.parent)]).exit_code == 0


# Interrupted, damaged, locked


@pytest.mark.parametrize("number", range(6))
def test_a_restore_that_fails_between_two_moves_is_undone(kept, monkeypatch, number):
    project, file = kept
    (project / "tracking" / "mlflow.db-journal").write_bytes(b"")
    before, rename, calls = content(project), Path.rename, []

    def failing(source, target):
        calls.append(source)
        if len(calls) == number + 1:
            raise KeyboardInterrupt if number % 2 else OSError(28, "No space left on device")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", failing)
    if number == 5:  # there are five moves
        backup.restore(file)
        assert len(calls) == 5
        return
    with pytest.raises((KeyboardInterrupt, UserError)) as error:
        backup.restore(file)
    assert number % 2 or "cannot be restored; nothing was changed" in str(error.value)
    assert content(project) == before
    assert not [*(project / "tracking").glob("re*")]


def test_a_restore_that_was_interrupted_is_noticed_and_done_again(kept):
    """As a power failure leaves it between the moves: the database goes first and comes last."""
    project, file = kept
    tracking = project / "tracking"
    (tracking / "replaced-1").mkdir()
    (tracking / "mlflow.db").rename(tracking / "replaced-1" / "mlflow.db")
    junk = tracking / "restoring" / "artifacts" / "1" / "junk.txt"
    junk.parent.mkdir(parents=True)
    junk.touch()
    with pytest.raises(UserError, match="is missing or empty, but its artifacts exist") as error:
        upgrade.prepare()
    assert f"a restore replaced are in {tracking / 'replaced-1'}. " in str(error.value)
    assert str(error.value).endswith(str(file))
    backup.restore(file)
    assert not junk.exists() and not (tracking / "artifacts" / "1" / "junk.txt").exists()
    assert runs(project) == 1


def test_an_emptied_database_is_no_new_history(kept):
    project, file = kept
    (project / "tracking" / "mlflow.db").write_bytes(b"")
    before = content(project)
    with pytest.raises(UserError, match="restore it with: ") as error:
        upgrade.prepare()
    assert str(file) in str(error.value) and content(project) == before


@pytest.mark.parametrize("damage", ["cut", "random", "overwritten"])
def test_a_damaged_database_names_its_newest_backup(project, damage):
    database = project / "tracking" / "mlflow.db"
    row = "INSERT INTO runs VALUES ('a{}', 1, '', 1, 'FINISHED', 'active');"
    write(database, "".join(map(row.format, range(500))))
    file, whole = backup.backup(), database.read_bytes()
    middle = len(whole) // 2
    parts = {
        "cut": whole[:middle],
        "random": bytes(range(7, 256)) * 200,
        "overwritten": whole[: 1 << 12] + bytes(2 << 12) + whole[3 << 12 :],
    }
    database.write_bytes(parts[damage])
    before = content(project)
    for act in (upgrade.prepare, backup.backup):
        with pytest.raises(UserError, match=f"{database} is damaged, or is not an MLflow database"):
            act()
        with pytest.raises(UserError, match=f"restore it with: .*{file}"):
            act()
    assert content(project) == before and history.known_backups() == [file]
    backup.restore(file)
    assert runs(project) == 500


def test_a_locked_database_is_not_called_damaged(kept, monkeypatch):
    monkeypatch.setattr(history, "WAIT_SECONDS", 0)
    with history.open_database(history.database()) as other:
        other.isolation_level = None
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="cannot be used now .database is locked.") as error:
            backup.backup()
        other.execute("ROLLBACK")
    assert "damaged" not in str(error.value) and "restore" not in str(error.value)


def test_a_deleted_folder_is_told_of_its_backups(kept, capsys):
    project, file = kept
    for path in sorted((project / "tracking").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    upgrade.prepare()
    told = capsys.readouterr().out
    assert "a new, empty history. The newest backup has 1 run; restore it with: " in told
    assert str(file) in told


# Upgrades


def outdated(project: Path) -> str:
    """Give a database the schema before the newest one; return that."""
    newest = history.schema(history.database())
    older = history.migrations()[newest]
    write(history.database(), f"UPDATE alembic_version SET version_num = '{older}'")
    return newest


def test_an_old_database_is_backed_up_and_upgraded_in_a_copy(kept, monkeypatch):
    project, first = kept
    newest = outdated(project)
    seen = []

    def migrate(uri, steps, folder):
        file = folder / uri.removeprefix("sqlite:///")
        seen.append((steps, file == history.database(), len(history.known_backups())))
        write(file, f"UPDATE alembic_version SET version_num = '{newest}'")
        return True, ""

    monkeypatch.setattr(upgrade, "migrate", migrate)
    upgrade.prepare()
    assert seen == [(1, False, 2)] and history.schema(history.database()) == newest
    upgrade.prepare()
    assert len(seen) == 1
    assert not [*(project / "tracking").glob(".upgrade-*")]


@pytest.mark.parametrize("how", ["fails", "loses rows", "stops half way"])
def test_an_upgrade_that_fails_changes_nothing(kept, monkeypatch, how):
    project, _ = kept
    newest = outdated(project)
    before = content(project)

    def migrate(uri, steps, folder):
        file = folder / uri.removeprefix("sqlite:///")
        if how != "stops half way":
            write(file, f"UPDATE alembic_version SET version_num = '{newest}'")
        if how == "loses rows":
            write(file, "DELETE FROM tags")
        return how != "fails", "table secrets already exists"

    monkeypatch.setattr(upgrade, "migrate", migrate)
    with pytest.raises(UserError, match="could not be upgraded and was not changed") as error:
        upgrade.prepare()
    told = "rows of ['tags'] would be lost" if how == "loses rows" else "secrets already exists"
    assert told in str(error.value) and str(history.known_backups()[-1]) in str(error.value)
    assert content(project) == before


def test_a_newer_history_is_left_alone(kept):
    project, file = kept
    write(history.database(), "UPDATE alembic_version SET version_num = 'ffff00001111'")
    before = content(project)
    with pytest.raises(UserError, match="was written by a newer MLflow than the installed"):
        upgrade.prepare()
    assert content(project) == before and history.known_backups() == [file]


@pytest.mark.parametrize("folder", ["100% mine", "mine"])
def test_an_environment_that_cannot_upgrade_is_refused(monkeypatch, tmp_path, folder):
    class Distribution:
        def locate_file(self, path):
            return tmp_path / folder / path

    monkeypatch.setattr(upgrade, "distribution", lambda name: Distribution())
    if "%" not in folder:
        upgrade.refuse_environment()
        return
    with pytest.raises(config.UserError, match="from a path with %: create the environment in"):
        upgrade.refuse_environment()
