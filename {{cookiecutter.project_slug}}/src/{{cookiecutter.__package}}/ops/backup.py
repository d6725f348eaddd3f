"""Back up the whole history into one verified file, and restore it."""

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import IO

import typer

from ..config import MODEL, ROOT, UserError
from .history import (
    DAMAGE,
    DATABASE,
    ELSEWHERE,
    MANIFEST,
    RUNS,
    artifacts,
    backup_folder,
    database,
    keep_private,
    migrations,
    newer,
    owning,
    renamed_setting,
    rows,
    runs_of,
    schema,
    snapshot,
)


def backup(target: Path | None = None) -> Path:
    """Write the whole history, as it is now, into one verified file, and return its path.

    `target` is a new file, or a folder for one. A server may run and writers write meanwhile.
    Raises `UserError` when there is no sound history, or the file cannot be written.
    """
    if not database().is_file():
        raise UserError(f"There is no history to back up: {database()} does not exist.")
    if target is None and (sentence := renamed_setting()):
        print(f"{sentence}: rename it where it is set.")
    target = place_for_backup(target)
    if target.exists() or target.is_relative_to(artifacts()):
        raise UserError(f"{target} exists already, or lies in the artifacts: name another file.")
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as folder:
            part = Path(folder, "part")
            manifest = pack(part, Path(folder, DATABASE))
            unpack(part, "Verifying")
            part.replace(target)
        if target.parent not in (ROOT / "backups", backup_folder()):
            ELSEWHERE.parent.mkdir(exist_ok=True, mode=0o700)
            with ELSEWHERE.open("a", encoding="utf-8") as places:
                places.write(f"{target}\n")
    except OSError as error:
        raise UserError(f"The backup {target} cannot be written: {error}.") from error
    runs, files = manifest["rows"]["runs"], len(manifest["files"])
    print(f"Backup   {target}")
    print(f"Holds    {runs} runs, {files} files, {target.stat().st_size / 1e6:.1f} MB, verified")
    return target


def place_for_backup(named: Path | None) -> Path:
    """Return the file that a backup is to become: `named`, or a new one in a folder.

    A folder in the project is made where no place is named. Any other has to be there: one that
    is missing is mistyped, or the place of a disk that is not mounted.
    """
    target = Path(os.path.abspath(named or backup_folder()))
    is_folder = target.is_dir() or named is None or target.suffix not in (".gz", ".tgz")
    folder = target if is_folder else target.parent
    try:
        if named is None and folder.is_relative_to(ROOT):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be made: {error}.") from error
    if not folder.is_dir():
        raise UserError(
            f"There is no folder {folder}: mount its disk or make it, then try again. (The name of "
            "a file ends in .tar.gz.)"
        )
    return folder / f"{MODEL}-{datetime.now():%Y%m%d-%H%M%S-%f}.tar.gz" if is_folder else target


def pack(part: Path, copy: Path) -> dict:
    """Write a snapshot of the history into the new file `part`; return its manifest."""
    manifest: dict = {"rows": snapshot(copy), "schema": schema(copy)}
    manifest |= {"project": MODEL, "mlflow": version("mlflow"), "created": str(datetime.now())}
    found = [file for file in artifacts().rglob("*") if file.is_file()]
    names = [f"artifacts/{file.relative_to(artifacts()).as_posix()}" for file in found]
    files = {DATABASE: copy, **dict(zip(names, found, strict=True))}
    files = {n: file for n, file in files.items() if not n.startswith("artifacts/.owner/")}
    sums = manifest["files"] = {}
    head = {RUNS: str(manifest["rows"]["runs"])}
    size = 0
    for file in files.values():
        with suppress(FileNotFoundError):  # a server's own, that came and went
            size += file.stat().st_size
    with (
        tarfile.open(part, "x:gz", compresslevel=1, pax_headers=head) as archive,
        typer.progressbar(length=size, label="Backing up") as bar,
    ):
        part.chmod(0o600)
        for name, file in files.items():
            with suppress(FileNotFoundError):  # deleted since it was listed
                sums[name] = add(archive, name, file, bar.update)
        content = io.BytesIO(json.dumps(manifest, indent=1).encode())
        _add(archive, MANIFEST, content)
    with part.open("rb+") as written:
        os.fsync(written.fileno())
    return manifest


def add(archive: tarfile.TarFile, name: str, file: Path, tick: Callable) -> str:
    """Add a file to an archive, once nobody writes to it; return its checksum."""
    beside = os.path.dirname(str(archive.name))
    while True:
        with (
            file.open("rb") as content,
            tempfile.SpooledTemporaryFile(64 << 20, dir=beside) as spool,
        ):
            before = os.fstat(content.fileno())
            found = transfer(content, spool, tick)
            after = os.fstat(content.fileno())
            if (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size):
                _add(archive, name, spool)
                return found


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = content.seek(0, os.SEEK_END), 0o600
    content.seek(0)
    archive.addfile(info, content)


def transfer(source: IO[bytes], target: IO[bytes], tick: Callable = id) -> str:
    """Copy what `source` has left, telling `tick` the sizes; return its checksum (SHA-256)."""
    checksum = hashlib.sha256()
    while block := source.read(1 << 20):
        checksum.update(block)
        target.write(block)
        tick(len(block))
    return checksum.hexdigest()


def unpack(file: Path, label: str, into: dict[str, Path] | None = None) -> dict:
    """Read a backup, prove that each byte is as it was written, and return its manifest.

    Its database and its artifacts are written to the paths that `into` has for them.
    Raises `UserError` when the file is damaged, or no backup made by this command.
    """
    sums, manifest = {}, {}
    try:
        with (
            file.open("rb") as raw,
            tarfile.open(fileobj=raw, mode="r:gz") as archive,
            typer.progressbar(length=file.stat().st_size, label=label) as bar,
        ):
            for member in archive:
                first, *others = place_of(member)
                content = archive.extractfile(member) or io.BytesIO()
                if first == MANIFEST:
                    manifest = dict(json.load(content))
                    continue
                target = into[first].joinpath(*others) if into else Path(os.devnull)
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                with target.open("wb") as written:
                    sums[member.name] = transfer(content, written)
                bar.update(raw.tell() - bar.pos)
        if manifest["files"] != sums or not sums[DATABASE]:
            raise ValueError("its checksums do not fit")
        if manifest["project"] != MODEL:
            raise ValueError(f"it is one of {manifest['project']}, not of {MODEL}")
        _ = manifest["schema"], manifest["created"], manifest["rows"]["runs"]
    except (*DAMAGE, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{file} is no whole backup of a history: {error}.") from error
    return manifest


def place_of(member: tarfile.TarInfo) -> tuple[str, ...]:
    """Return the parts of a member's path; raise `ValueError` for what is not in a history."""
    parts = PurePath(member.name).parts
    below = PurePath(*parts[1:])
    known = parts[:1] == ("artifacts",) if parts[1:] else member.name in (DATABASE, MANIFEST)
    if not member.isfile() or not known or below.anchor or ".." in parts:
        raise ValueError(f"{member.name!r} has no place in a history")
    return parts


def restore(file: Path) -> None:
    """Put a backup in the place of the history, which is kept beside it in a folder of its own.

    Raises `UserError`, with the history untouched, when the file is damaged, foreign or newer, or
    when the history is in use.
    """
    if not file.is_file():
        raise UserError(f"There is no backup {file}.")
    into = {DATABASE: database().resolve(), "artifacts": artifacts().resolve()}
    staged = {name: place.parent / "restoring" / place.name for name, place in into.items()}
    with owning("a restore", seconds=2):
        try:
            clear(staged)  # of a restore that was cut off
            manifest = unpack(file, "Verifying", staged)
            if (reached := schema(staged[DATABASE])) not in migrations():
                raise UserError(newer(file, reached))
            if rows(staged[DATABASE]) != manifest["rows"]:
                raise UserError(f"{file} is no whole backup of a history: its rows do not fit.")
            staged["artifacts"].mkdir(exist_ok=True)
            before = runs_of(into[DATABASE])
            kept = swap(into, staged)
            keep_private()
        except OSError as error:
            raise UserError(f"{file} cannot be restored, all is as it was: {error}.") from error
        finally:
            clear(staged)
    print(f"Restored {database().parent}: {manifest['rows']['runs']} runs of {manifest['created']}")
    for folder in kept:
        told = "" if before is None else f": {before} run{'s' * (before != 1)}"
        print(f"Before   {folder}, yours to remove{told}")


def clear(staged: dict[str, Path]) -> None:
    """Remove the folders of what is `staged`, where they exist."""
    for place in staged.values():
        shutil.rmtree(place.parent, ignore_errors=True)


def swap(into: dict[str, Path], staged: dict[str, Path]) -> set[Path]:
    """Put what is `staged` in place and return the folders that have the old files; or undo it all.

    The database goes first and comes last: where a restore was cut off, `prepare` refuses.
    """
    file, folder = into[DATABASE], into["artifacts"]
    # Left in place, a journal of a crash would be rolled back into the database that comes.
    journals = [file.with_name(file.name + ending) for ending in ("-journal", "-wal", "-shm")]
    name = f"replaced-{datetime.now():%Y%m%d-%H%M%S-%f}"
    old = [place for place in (file, *journals, folder) if place.exists()]
    moves = [(place, place.parent / name / place.name) for place in old]
    away = {target.parent for _, target in moves}
    done: list[tuple[Path, Path]] = []
    try:
        for parent in away:
            parent.mkdir(mode=0o700)
        for source, target in (*moves, (staged["artifacts"], folder), (staged[DATABASE], file)):
            done.append((source.rename(target), source))
    except BaseException:  # Ctrl-C included
        for target, source in reversed(done):
            target.rename(source)
        for parent in away:
            parent.rmdir()
        raise
    return away
