"""What a run is made with: commit, process, packages, changed code; and how many files it keeps."""

import ast
import hashlib
import os
import platform
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from fnmatch import fnmatch
from importlib.metadata import distributions, packages_distributions, version
from subprocess import CalledProcessError

import psutil

from ..config import LOGGED_FILES, ROOT, SETTINGS, UserError
from ..ops.shell import git


def run_tags() -> dict[str, str]:
    """Return what tells a run's origin: commit, whether files differ from it, and the process."""
    process = f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.0f}"
    tags = {"process": process, "python": platform.python_version(), "mlflow": version("mlflow")}
    try:
        commit, changed = git("rev-parse", "HEAD"), git("status", "--porcelain", "--", ".")
    except (OSError, subprocess.CalledProcessError):
        return tags | {"git": "none"}
    return tags | {"git": commit.strip(), "git_dirty": str(bool(changed)).lower()}


def requirements(model) -> list[str]:
    """Return the installed versions of the few libraries that loading `model` needs."""
    parts = [model, *model.get_params().values()]
    modules = {type(part).__module__.partition(".")[0] for part in parts} - {__package__}
    found = packages_distributions()
    names = {"mlflow", "numpy", "pandas", "skops"}
    names |= {found[module][0] for module in modules if module in found}
    return [f"{name}=={version(name)}" for name in sorted(names)]


LARGEST = 256  # kB of a file whose changes are kept
MOST, MOST_FILES = 1 << 20, 200  # characters and files of changes that are kept
TOO_MUCH = f"more than {MOST >> 20} MB or {MOST_FILES} files differ"
DATA = ("*.csv", "*.tsv", "*.jsonl", "*.ndjson", "data")
SECRET = (".env*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.ppk", "*.jks", "*.kdbx",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".netrc", "_netrc", ".pgpass", ".pypirc",
    ".git-credentials", ".htpasswd", ".aws", ".ssh", "credentials*", "secret*")  # fmt: skip
PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY")
BINARY = re.compile(r"^Binary files .* differ$", re.MULTILINE)  # or larger than git was told
PASSWORD = re.compile(r"(?i)(\w*(?:PASSW|PWD|SECRET|TOKEN|KEY|CREDENTIAL)\w*\s*=\s*)\S.*")
IN_ADDRESS = re.compile(r"://(?:[^\s/:@]*:[^\s/@]+|[^\s/:@]{20,})@")
DIFF = (
    "-c", f"core.bigFileThreshold={LARGEST}k", "-c", "core.quotePath=false", "--literal-pathspecs",
    "diff", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--src-prefix=a/",
    "--dst-prefix=b/",
)  # fmt: skip


def record_files(run_id: str, model_id: str | None = None) -> None:
    """Record how many files a run, and a model, hold: `doctor` expects no fewer from now on.

    Call it when all files are logged.
    """
    import mlflow

    client = mlflow.MlflowClient()
    files = count(lambda path: client.list_artifacts(run_id, path))
    client.set_tag(run_id, LOGGED_FILES, files)
    if model_id:
        files = count(lambda path: client.list_logged_model_artifacts(model_id, path))
        client.set_logged_model_tags(model_id, {LOGGED_FILES: str(files)})


def count(list_artifacts: Callable, path: str | None = None) -> int:
    """Return the number of files below `path`; `list_artifacts` returns what a folder holds."""
    found = list_artifacts(path)
    return sum(count(list_artifacts, one.path) if one.is_dir else 1 for one in found)


def origin() -> dict[str, str]:
    """Return what a run is made with, by file name: packages, lock file, changed code."""
    installed = {f"{one.name}=={one.version}" for one in distributions()}
    found = {"packages.txt": "\n".join(sorted(installed, key=str.lower)) + "\n"}
    for lock in (ROOT / "uv.lock", ROOT / "requirements.lock"):
        if lock.is_file():
            found[lock.name] = lock.read_text("utf-8")
    with suppress(OSError, CalledProcessError):
        found["changes.diff"] = changes()
    return {name: IN_ADDRESS.sub("://***@", text) for name, text in found.items() if text}


def changes() -> str:
    """Return how the project's files differ from the commit, as a patch, and what it leaves out.

    Data, binary files and what looks like secrets are left out, as is all beyond `MOST`. Each is
    named at the top, with a checksum of its content unless it looks like a secret.
    """
    notes: list[str] = []
    kept: list[str] = []
    for name, is_new in changed_files():
        room = MOST - sum(map(len, kept)) if len(kept) < MOST_FILES else 0
        why = unfit_name(name)
        text = difference(name, is_new) if room and not why else ""
        if why := why or unfit_text(text) or TOO_MUCH * (len(text) >= room):
            notes.append(f"# left out: {name}, {why}{'' if 'secret' in why else checksum(name)}")
            continue
        hidden = PASSWORD.sub(r"\1***", text) if name == SETTINGS.name else text
        hidden = IN_ADDRESS.sub("://***@", hidden)
        notes += [f"# replaced by ***: passwords and keys in {name}"] * (hidden != text)
        kept.append(hidden)
    return "".join(f"{note}\n" for note in notes) + "".join(kept)


def changed_files() -> Iterator[tuple[str, bool]]:
    """Yield the name of each file that differs from the commit, and whether git does not track it.

    Of the latter only those in `src`.
    """
    for name in git(*DIFF, "--name-only", "--relative", "-z", "HEAD", "--", ".").split("\0")[:-1]:
        yield name, False
    new = git("ls-files", "--others", "--exclude-standard", "-z", "--", "src")
    for name in new.split("\0")[:-1]:
        yield name, True


def difference(name: str, is_new: bool) -> str:
    """Return what git says of how a file differs from the commit."""
    if is_new:
        return git(*DIFF, "--no-index", "--", os.devnull, name, wrong=1)
    return git(*DIFF, "--relative", "HEAD", "--", name)


def unfit_name(name: str) -> str:
    """Return why a file of this name is left out; nothing when it is not."""
    if name == SETTINGS.name:
        return ""
    for why, patterns in (("it looks like a secret", SECRET), ("it looks like data", DATA)):
        if any(fnmatch(part.lower(), one) for part in name.split("/") for one in patterns):
            return why
    return ""


def unfit_text(text: str) -> str:
    """Return why a change is left out; nothing when it is not."""
    if PRIVATE_KEY.search(text):
        return "it holds a secret key"
    return f"it is binary or larger than {LARGEST} kB" if BINARY.search(text) else ""


def checksum(name: str) -> str:
    """Return a remark on a file's content that tells one from another."""
    if not (ROOT / name).is_file():
        return " (deleted)"
    with (ROOT / name).open("rb") as file:
        return f" (SHA-256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]})"


def code_hash() -> str:
    """Return a hash of the package's files; line endings, which git may change, do not count."""
    package, total = ROOT / "src" / (__package__ or "").partition(".")[0], hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        content = hashlib.sha256(file.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
        total.update(f"{file.relative_to(package).as_posix()} {content}\n".encode())
    return total.hexdigest()


def parameters(run) -> tuple[dict, int]:
    """Return the parameters and the seed of a run that `train` made; refuse another one."""
    params = {name: literal(value) for name, value in run.data.params.items()}
    if "seed" not in params or "process" not in run.data.tags:
        raise UserError(f"Run {run.info.run_id} was not made by train: name one that was.")
    return params, params.pop("seed")


def literal(text: str):
    """Return the value that a logged parameter was written from."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
