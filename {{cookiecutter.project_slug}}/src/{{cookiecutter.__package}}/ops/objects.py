"""Copy the artifacts of a history to another store, and compare each file that has arrived.

Any store that MLflow knows will do. What is there already is not sent again, but compared.
"""

import hashlib
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import UserError
from .shell import one_line

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

THREADS = 8
NOT_COPIED = ".owner"  # proofs of who serves the history


def files_of(folder: Path) -> list[Path]:
    """Return the files of a folder of artifacts, relative to it."""
    found = (file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    return sorted(file for file in found if file.parts[0] != NOT_COPIED)


def copy_files(folder: Path, destination: str, seen: Callable[[int], None]) -> int:
    """Copy the files of a folder to a store; return how many were sent, the others were there.

    `seen` is told the bytes of each file that is there and equal. Raises `UserError` at the first
    file that cannot be stored, or that comes back changed.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    store, sent, files = get_artifact_repository(destination), 0, files_of(folder)
    sizes = listed(store, {file.parent for file in files})

    def transfer(file: Path) -> bool:
        is_there = sizes.get(file.as_posix()) == (folder / file).stat().st_size
        if not is_there:
            place = file.parent.as_posix()
            store.log_artifact(str(folder / file), None if place == "." else place)
        with tempfile.TemporaryDirectory() as back:
            returned = Path(store.download_artifacts(file.as_posix(), back))
            if sha256(returned) != sha256(folder / file):
                raise UserError(f"{file} came back from {destination} with another content.")
        return not is_there

    with ThreadPoolExecutor(THREADS) as pool:
        running = {pool.submit(transfer, file): file for file in files}
        for future, file in running.items():
            try:
                sent += future.result()
            except UserError:
                pool.shutdown(cancel_futures=True)
                raise
            except Exception as error:  # each kind of store has its own
                pool.shutdown(cancel_futures=True)
                raise UserError(
                    f"{file} cannot be stored in {destination} ({one_line(error)}). Nothing else "
                    "was changed: what was stored is kept, so type the same again."
                ) from error
            seen((folder / file).stat().st_size)
    return sent


def listed(store: "ArtifactRepository", folders: set[Path]) -> dict[str, int]:
    """Return the size of each file that a store has in some folders."""
    if not store.list_artifacts():  # new: there is nothing to ask for
        return {}
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda folder: store.list_artifacts(folder.as_posix()), sorted(folders))
        return {one.path: one.file_size or 0 for names in found for one in names if not one.is_dir}


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
