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
    RUNS_HEADER,
    artifacts,
    backup_folder,
    database,
    keep_private,
    migrations,
    newer_schema,
    owning,
    renamed_setting,
    row_counts,
    runs_in_database,
    schema,
    snapshot,
)
from .shell import counted

MANIFEST_KEYS = {"files", "project", "schema", "created", "rows"}


def backup(target: Path | None = None) -> Path:
    """Write the whole history into one verified file, and return its path.

    `target` is a new file, or a folder for one. The server may run, and clients may log meanwhile.
    Raises `UserError` if there is no sound history, or if the file cannot be written.
    """
    if not database().is_file():
        raise UserError(f"There is no history to back up: {database()} does not exist.")
    if target is None and (sentence := renamed_setting()):
        print(f"{sentence}: rename it where it is set.")
    target = place_for_backup(target)
    if target.exists():
        raise UserError(f"{target} already exists: name another file.")
    if target.is_relative_to(artifacts()):
        raise UserError(f"{target} is in the artifact folder: name another file.")
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
    size = f"{target.stat().st_size / 1e6:.1f} MB"
    print(f"Holds    {counted(runs, 'run')}, {counted(files, 'file')}, {size}, verified")
    return target


def place_for_backup(named: Path | None) -> Path:
    """Return the file to write: `named`, or a new one in the folder `named` or the default folder.

    A default folder inside the project is created. Any other folder must exist: a missing one is
    mistyped, or its disk is not mounted.
    """
    target = Path(os.path.abspath(named or backup_folder()))
    is_folder = target.is_dir() or named is None or target.suffix not in (".gz", ".tgz")
    folder = target if is_folder else target.parent
    try:
        if named is None and folder.is_relative_to(ROOT):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be created: {error}.") from error
    if not folder.is_dir():
        raise UserError(
            f"The folder {folder} does not exist: mount its disk or create it, then try again. (A "
            "file name must end in .tar.gz.)"
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
    head = {RUNS_HEADER: str(manifest["rows"]["runs"])}
    size = 0
    for file in files.values():
        with suppress(FileNotFoundError):  # temporary, and deleted meanwhile
            size += file.stat().st_size
    with (
        tarfile.open(part, "x:gz", compresslevel=1, pax_headers=head) as archive,
        typer.progressbar(length=size, label="Backing up") as bar,
    ):
        part.chmod(0o600)
        for name, file in files.items():
            with suppress(FileNotFoundError):  # deleted meanwhile
                sums[name] = add(archive, name, file, bar.update)
        content = io.BytesIO(json.dumps(manifest, indent=1).encode())
        _add(archive, MANIFEST, content)
    with part.open("rb+") as written:
        os.fsync(written.fileno())
    return manifest


def add(archive: tarfile.TarFile, name: str, file: Path, tick: Callable) -> str:
    """Add a file to an archive, read again until it did not change; return its checksum."""
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
    """Copy the rest of `source`; return its SHA-256. `tick` gets the bytes of each block."""
    checksum = hashlib.sha256()
    while block := source.read(1 << 20):
        checksum.update(block)
        target.write(block)
        tick(len(block))
    return checksum.hexdigest()


def unpack(file: Path, label: str, into: dict[str, Path] | None = None) -> dict:
    """Read a backup, verify its checksums, and return its manifest.

    Its database and artifacts are written to the paths in `into`, if given.
    Raises `UserError` if the file is damaged, or was not written by this project's `backup`.
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
        if lacking := MANIFEST_KEYS - manifest.keys():
            raise ValueError(f"its {MANIFEST} has no {', '.join(sorted(lacking))}")
        if manifest["files"] != sums or DATABASE not in sums:
            raise ValueError("its checksums do not match")
        if manifest["project"] != MODEL:
            raise ValueError(f"it is a backup of {manifest['project']}, not of {MODEL}")
    except (*DAMAGE, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{file} is not a complete backup: {error}.") from error
    return manifest


def place_of(member: tarfile.TarInfo) -> tuple[str, ...]:
    """Return the parts of a member's path; raise `ValueError` if a history has no such file."""
    parts = PurePath(member.name).parts
    below = PurePath(*parts[1:])
    known = parts[:1] == ("artifacts",) if parts[1:] else member.name in (DATABASE, MANIFEST)
    if not member.isfile() or not known or below.anchor or ".." in parts:
        raise ValueError(f"{member.name!r} is not a file of a history")
    return parts


def restore(file: Path) -> None:
    """Replace the history by a backup; the old history is kept in a folder beside it.

    Raises `UserError`, with the history unchanged, if the file is damaged, of another project or of
    a newer MLflow, or if the history is in use.
    """
    if not file.is_file():
        raise UserError(f"There is no backup {file}.")
    into = {DATABASE: database().resolve(), "artifacts": artifacts().resolve()}
    staged = {name: place.parent / "restoring" / place.name for name, place in into.items()}
    with owning("a restore", seconds=2):
        try:
            clear(staged)  # of an interrupted restore
            manifest = unpack(file, "Verifying", staged)
            if (reached := schema(staged[DATABASE])) not in migrations():
                raise UserError(newer_schema(file, reached))
            if row_counts(staged[DATABASE]) != manifest["rows"]:
                raise UserError(f"{file} is not a complete backup: its rows do not match.")
            staged["artifacts"].mkdir(exist_ok=True)
            before = runs_in_database(into[DATABASE])
            kept = swap(into, staged)
            keep_private()
        except OSError as error:
            raise UserError(f"{file} cannot be restored; nothing was changed: {error}.") from error
        finally:
            clear(staged)
    runs = counted(manifest["rows"]["runs"], "run")
    print(f"Restored {database().parent}: {runs}, backed up at {manifest['created']}")
    for folder in kept:
        had = "" if before is None else f" ({counted(before, 'run')})"
        print(f"Before   {folder}{had}: delete it when you do not need it")


def clear(staged: dict[str, Path]) -> None:
    """Delete the folders of the `staged` files, if they exist."""
    for place in staged.values():
        shutil.rmtree(place.parent, ignore_errors=True)


def swap(into: dict[str, Path], staged: dict[str, Path]) -> set[Path]:
    """Move the `staged` files into place; return the folders of the old files. Undo it on errors.

    The database is moved away first and into place last: after an interrupted restore it is
    missing, and `prepare` raises `UserError`.
    """
    file, folder = into[DATABASE], into["artifacts"]
    # SQLite would roll a journal of the old database back into the new one.
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
