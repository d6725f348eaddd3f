"""What a run is made with: commit, process, packages, changed code; and how many files it keeps."""

import difflib
import hashlib
import os
import platform
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from importlib.metadata import distributions, packages_distributions, version
from pathlib import Path
from subprocess import CalledProcessError

import psutil

from ..config import LOGGED_FILES, ROOT, SETTINGS
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
    modules = {type(part).__module__.partition(".")[0] for part in parts}
    modules -= {"builtins", PACKAGE.name}
    names = {"mlflow", "numpy", "pandas", "skops"} | {*filter(None, map(distribution_of, modules))}
    return [f"{name}=={version(name)}" for name in sorted(names)]


def distribution_of(module: str) -> str | None:
    """Return the name of the package that an installed module is from."""
    if module == "sklearn":  # by far the most frequent; to look through all packages takes 0.3 s
        return "scikit-learn"
    return next(iter(packages_distributions().get(module, ())), None)


PACKAGE = Path(__file__).resolve().parents[1]
LARGEST = 256  # kB of a file whose changes are kept
MOST, MOST_FILES = 1 << 20, 200  # characters and files of changes that are kept
BINARY_OR_LARGE = f"it is binary or larger than {LARGEST} kB"
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


def record_files(run_id: str, model_id: str | None = None, folder: Path | None = None) -> None:
    """Record how many files a run, and a model, hold: `doctor` expects no fewer from now on.

    Call it when all files are logged. If they were logged from one `folder`, its files are counted.
    """
    import mlflow

    client = mlflow.MlflowClient()
    if folder:
        files = sum(file.is_file() for file in folder.rglob("*"))
    else:
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
    known = (one.metadata for one in distributions())
    installed = {f"{one['Name']}=={one['Version']}" for one in known}
    found = {"packages.txt": "\n".join(sorted(installed, key=str.lower)) + "\n"}
    for lock in (ROOT / "uv.lock", ROOT / "requirements.lock"):
        if lock.is_file():
            found[lock.name] = lock.read_text("utf-8")
    try:
        found["changes.diff"] = changes()
    except (OSError, CalledProcessError):  # no git, or no commit
        found["code.diff"] = code()
    return {name: IN_ADDRESS.sub("://***@", text) for name, text in found.items() if text}


def package_files() -> list[Path]:
    """Return the files of this package, in an order that does not depend on the system."""
    files = (file for file in PACKAGE.rglob("*") if file.is_file())
    kept = (file for file in files if not {"__pycache__", ".DS_Store"} & {*file.parts})
    return sorted(kept, key=lambda file: file.relative_to(PACKAGE).as_posix())


def code_hash() -> str:
    """Return a hash of the package's files; line endings, which git may change, do not count."""
    total = hashlib.sha256()
    for file in package_files():
        content = hashlib.sha256(file.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
        total.update(f"{file.relative_to(PACKAGE).as_posix()} {content}\n".encode())
    return total.hexdigest()


def code() -> str:
    """Return the package's files as a patch on an empty folder, for a run without a commit.

    Data, binary files, secrets and what is beyond `MOST` are left out, and named at the top.
    """
    notes: list[str] = []
    kept: list[str] = []
    for file in package_files():
        name = file.relative_to(PACKAGE).as_posix()
        room = MOST - sum(map(len, kept)) if len(kept) < MOST_FILES else 0
        why, text = unfit_name(name), ""
        if not why:
            small = file.stat().st_size <= LARGEST << 10
            content = file.read_bytes() if small else b"\0"
            text = "" if b"\0" in content else as_new(file, content.decode("utf-8", "replace"))
            why = unfit_text(text) or BINARY_OR_LARGE * (b"\0" in content)
        if why := why or TOO_MUCH * (len(text) > room):
            notes.append(left_out(name, why, file))
        else:
            kept.append(text)
    return "".join(notes) + "".join(kept)


def as_new(file: Path, text: str) -> str:
    """Return the text of a file as a patch that makes it."""
    name = file.relative_to(ROOT).as_posix()
    lines = text.splitlines(keepends=True)
    patch = "".join(difflib.unified_diff([], lines, "/dev/null", f"b/{name}"))
    return (
        patch if patch.endswith("\n") or not patch else f"{patch}\n\\ No newline at end of file\n"
    )


def left_out(name: str, why: str, file: Path) -> str:
    """Return a note on a file that is not kept, with a checksum unless it looks like a secret."""
    return f"# left out: {name}, {why}{'' if 'secret' in why else checksum(file)}\n"


def write_origin(folder: Path) -> None:
    """Write what a run is made with into a folder that does not exist yet."""
    folder.mkdir()
    for name, text in origin().items():
        (folder / name).write_text(text, "utf-8", newline="")


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
            notes.append(left_out(name, why, ROOT / name))
            continue
        hidden = PASSWORD.sub(r"\1***", text) if name == SETTINGS.name else text
        hidden = IN_ADDRESS.sub("://***@", hidden)
        notes += [f"# replaced by ***: passwords and keys in {name}\n"] * (hidden != text)
        kept.append(hidden)
    return "".join(notes) + "".join(kept)


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
    name = name.removeprefix(f"src/{PACKAGE.name}/")  # the project's own name says nothing
    for why, patterns in (("it looks like a secret", SECRET), ("it looks like data", DATA)):
        if any(fnmatch(part.lower(), one) for part in name.split("/") for one in patterns):
            return why
    return ""


def unfit_text(text: str) -> str:
    """Return why a change is left out; nothing when it is not."""
    if PRIVATE_KEY.search(text):
        return "it holds a secret key"
    return BINARY_OR_LARGE if BINARY.search(text) else ""


def checksum(place: Path) -> str:
    """Return a remark on a file's content that tells one from another."""
    if not place.is_file():
        return " (deleted)"
    with place.open("rb") as file:
        return f" (SHA-256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]})"
