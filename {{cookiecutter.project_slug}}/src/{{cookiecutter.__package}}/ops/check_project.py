"""Doctor's checks of the project: environment, settings, server, disk, git.

Every check reads only, with the server or without it, and yields its findings.
"""

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from dotenv import dotenv_values
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ..config import FROM_SHELL, ROOT, SETTINGS
from . import access, history, ownership, upgrade
from .history import artifacts, database
from .shell import git, quoted

NEEDED = (*ownership.ADDRESS, *ownership.STORES, "MLFLOW_SERVER_ALLOWED_HOSTS")
GIB = 1 << 30
# What sends the runs of a notebook elsewhere, when it is left in a shell.
REDIRECTING = ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID")
SHARED = ("nfs", "cifs", "smb", "9p", "drvfs", "fuse.", "vboxsf", "afpfs", "webdav", "prl_fs")
SYNCED = ("onedrive", "dropbox", "google drive", "googledrive", "icloud", "mobile documents",
    "cloudstorage", "nextcloud", "pcloud", "box sync")  # fmt: skip


def environment() -> Iterator[tuple]:
    """Python and the dependencies are those that pyproject.toml asks for, in a fit place."""
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
    """The settings are whole, and no variable of the shell sends anything elsewhere."""
    if missing := [name for name in NEEDED if not dotenv_values(SETTINGS).get(name)]:
        yield "wrong", f"no {', '.join(missing)} in {SETTINGS}", "write it as the template had it"
    for name in ownership.DIVERTING:
        if name in os.environ:
            yield "wrong", f"{name} sends a part elsewhere", f"unset {name}"
    if sentence := history.renamed_setting():
        yield "warning", sentence, f"write {history.PLACE}=FOLDER in {SETTINGS.name} instead"
    names = sorted({*FROM_SHELL, *(name for name in REDIRECTING if name in os.environ)})
    for name in names:
        yield "warning", f"{name}={os.environ[name]} comes from your shell", f"unset {name}"
    if not missing and not names and not sentence:
        yield "ok", str(SETTINGS)


def serving() -> Iterator[tuple]:
    """The settings' port is free or held by this history's server, and the owner answers."""
    for name in access.opening():
        found = f"{name} from your shell can open the history to others: start-server refuses it"
        yield "warning", found, f"unset {name}"
    if sentence := ownership.displaced():
        yield "wrong", sentence
        return
    uri, running, owner = ownership.address(), ownership.running(), history.owner()
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
    """There is room for more."""
    for folder in sorted({place.parent for place in (database(), artifacts())}):
        there = next(place for place in (folder, *folder.parents) if place.exists())
        free = psutil.disk_usage(str(there)).free
        state = "wrong" if free < GIB / 5 else "warning" if free < 2 * GIB else "ok"
        yield state, f"{size(free)} free at {folder}", "" if state == "ok" else "make room"


def place() -> Iterator[tuple]:
    """The database lies on a disk of this machine, in a folder that nothing synchronises."""
    folder = database().parent.resolve()
    mounts = psutil.disk_partitions(all=True)
    mounts = [mount for mount in mounts if folder.is_relative_to(mount.mountpoint)]
    kind = max(mounts, key=lambda mount: len(mount.mountpoint)).fstype.lower() if mounts else ""
    synced = next((part for part in folder.parts if part.lower().startswith(SYNCED)), "")
    if kind.startswith(SHARED) or synced:
        remedy = "move it to a local disk: databases get locked or damaged there"
        yield "warning", f"{folder} is on a shared or synchronised disk ({synced or kind})", remedy
    else:
        yield "ok", f"{folder} is local ({kind or 'unknown file system'})"


def ignored() -> Iterator[tuple]:
    """Git leaves out what only this machine should have: it may be personal, and it is large."""
    places = (database(), artifacts(), history.backup_folder(), ROOT / "serving")
    try:
        seen = [path for place in places if (path := seen_by_git(Path(os.path.abspath(place))))]
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return
    for path in seen:
        untrack = quoted("git", "rm", "-r", "--cached", "--ignore-unmatch", path)
        pattern = f"/{path}*" if ROOT / path == database() else f"/{path}/"  # with its journal
        remedy = f"write {pattern} into .gitignore, then: {untrack}"
        yield "warning", f"git does not ignore {ROOT / path}", remedy
    if not seen:
        yield "ok", "git leaves out the history, its backups and the log of requests"


def seen_by_git(place: Path) -> str:
    """Return the path of a file or folder in the project that git tracks, or would with `add -A`.

    Nothing where it does not. Raises `CalledProcessError` where there is no repository.
    """
    if not place.is_relative_to(ROOT):
        return ""
    path = place.relative_to(ROOT).as_posix()
    tracked = git("ls-files", "--", path)
    one_below = path if place == database() else f"{path}/1"  # a folder may be made later
    return path if tracked or not git("check-ignore", "--", one_below, wrong=1) else ""


def size(count: float) -> str:
    """Return a number of bytes as people read it."""
    return f"{count / GIB:.1f} GiB" if count > GIB else f"{count / (1 << 20):.1f} MiB"
