"""Doctor's checks of the project: environment, settings, server, disk, git.

Checks only read, with or without a running server, and yield findings: state, text, remedy.
"""

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from dotenv import dotenv_values
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ..config import FROM_SHELL, ROOT, SETTINGS, port
from . import access, history, ownership, upgrade
from .history import artifacts, database
from .shell import git, quoted, size

NEEDED = (*ownership.ADDRESS, *ownership.STORES, "MLFLOW_SERVER_ALLOWED_HOSTS")
GIB = 1 << 30
SHORT_PATH = 259  # characters
NAME_LENGTH = 90  # of the longest file that `train` and `promote` make, below the artifacts
# Variables of a shell that send the runs of a notebook elsewhere.
REDIRECTING = ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID")
SHARED = ("nfs", "cifs", "smb", "9p", "drvfs", "fuse.", "vboxsf", "afpfs", "webdav", "prl_fs")
SYNCED = ("onedrive", "dropbox", "google drive", "googledrive", "icloud", "mobile documents",
    "cloudstorage", "nextcloud", "pcloud", "box sync")  # fmt: skip


def environment() -> Iterator[tuple]:
    """Check that Python and the dependencies are those of pyproject.toml."""
    upgrade.refuse_environment()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    python = ".".join(map(str, sys.version_info[:3]))
    unfit = [] if python in SpecifierSet(project["requires-python"]) else [f"Python {python}"]
    for wanted in map(Requirement, project["dependencies"]):
        try:
            if not wanted.specifier.contains(version(wanted.name), prereleases=True):
                unfit.append(f"{wanted.name} {version(wanted.name)}, not {wanted.specifier}")
        except PackageNotFoundError:
            unfit.append(f"no {wanted.name}")
    if unfit:
        yield "wrong", "; ".join(unfit), "install again, as README.md says"
    else:
        yield "ok", f"Python {python}, MLflow {version('mlflow')}, in {sys.prefix}"


def settings() -> Iterator[tuple]:
    """Check that no setting is missing, and that the shell overrides none."""
    if missing := [name for name in NEEDED if not dotenv_values(SETTINGS).get(name)]:
        yield "wrong", f"no {', '.join(missing)} in {SETTINGS}", "restore the template's default"
    for name in ownership.DIVERTING:
        if name in os.environ:
            yield "wrong", f"{name} would send part of the history elsewhere", f"unset {name}"
    if sentence := history.renamed_setting():
        yield "warning", sentence, f"write {history.BACKUP_DIR}=FOLDER in {SETTINGS.name} instead"
    names = sorted({*FROM_SHELL, *(name for name in REDIRECTING if name in os.environ)})
    for name in names:
        found = f"{name}={os.environ[name]} comes from your shell"
        if name == "MLFLOW_PORT" and port(name):  # the way around a port that is taken
            yield "ok", found
        else:
            yield "warning", found, f"unset {name}"
    if not missing and not names and not sentence:
        yield "ok", str(SETTINGS)


def server() -> Iterator[tuple]:
    """Check that the port is free or used by this history's server, and that the server answers."""
    for name in access.opened_by_shell():
        found = f"{name} from your shell can open the history to others: start-server refuses it"
        yield "warning", found, f"unset {name}"
    if sentence := ownership.displaced_server():
        yield "wrong", sentence
        return
    uri, running, owner = ownership.address(), ownership.own_server(), history.owner()
    if running and not owner:
        yield "ok", f"this history is served at {running}{ownership.whose(running)}"
    elif running:
        yield "ok", f"this history is served at {owner}"
    elif owner:
        yield "wrong", f"the history is in use by {owner}, which does not answer", "wait, or end it"
    elif ownership.listens(uri):
        yield "wrong", ownership.held(uri)
    else:
        yield "ok", f"{uri} is free, no server runs"


def disk() -> Iterator[tuple]:
    """Check that the disk has free space."""
    for folder in sorted({place.parent for place in (database(), artifacts())}):
        there = next(place for place in (folder, *folder.parents) if place.exists())
        free = psutil.disk_usage(str(there)).free
        state = "wrong" if free < GIB / 5 else "warning" if free < 2 * GIB else "ok"
        yield state, f"{size(free)} free at {folder}", "" if state == "ok" else "free some space"


def place() -> Iterator[tuple]:
    """Check that the history is on a local disk, not synchronised, and its paths are short."""
    folder = database().parent.resolve()
    mounts = psutil.disk_partitions(all=True)
    mounts = [mount for mount in mounts if folder.is_relative_to(mount.mountpoint)]
    kind = max(mounts, key=lambda mount: len(mount.mountpoint)).fstype.lower() if mounts else ""
    synced = next((part for part in folder.parts if part.lower().startswith(SYNCED)), "")
    if kind.startswith(SHARED) or synced:
        remedy = "move it to a local disk: a database can be locked or damaged there"
        yield "warning", f"{folder} is on a shared or synchronised disk ({synced or kind})", remedy
    else:
        yield "ok", f"{folder} is local ({kind or 'unknown file system'})"
    if takes_short_paths_only():
        root = artifacts().resolve()
        new = len(str(root)) + NAME_LENGTH
        length = max([new, *(len(str(file)) for file in root.rglob("*"))])
        if length > SHORT_PATH:
            found = f"{root} leads to paths of {length} characters; Windows takes {SHORT_PATH}"
            yield "warning", found, "move the project to a shorter path, or enable long paths"


def takes_short_paths_only() -> bool:
    """Return whether this is Windows with its limit on the length of a path: its default."""
    if sys.platform != "win32":
        return False
    import winreg

    with suppress(OSError):  # no such value
        place = r"SYSTEM\CurrentControlSet\Control\FileSystem"
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as key:
            return not winreg.QueryValueEx(key, "LongPathsEnabled")[0]
    return True


def ignored() -> Iterator[tuple]:
    """Check that git ignores the history, backups and requests: large, maybe personal data."""
    places = (database(), artifacts(), history.backup_folder(), ROOT / "serving")
    try:
        seen = [path for place in places if (path := seen_by_git(Path(os.path.abspath(place))))]
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return
    for path in seen:
        untrack = quoted("git", "rm", "-r", "--cached", "--ignore-unmatch", path)
        pattern = f"/{path}*" if ROOT / path == database() else f"/{path}/"  # with its journal
        remedy = f"add {pattern} to .gitignore, then: {untrack}"
        yield "warning", f"git does not ignore {ROOT / path}", remedy
    if not seen:
        yield "ok", "git ignores the history, its backups and the log of requests"


def seen_by_git(place: Path) -> str:
    """Return the path of a file or folder that git tracks, or would track with `add -A`, else "".

    Raises `CalledProcessError` if there is no repository.
    """
    if not place.is_relative_to(ROOT):
        return ""
    path = place.relative_to(ROOT).as_posix()
    tracked = git("ls-files", "--", path)
    one_below = path if place == database() else f"{path}/1"  # a folder may be made later
    return path if tracked or not git("check-ignore", "--", one_below, wrong=1) else ""
