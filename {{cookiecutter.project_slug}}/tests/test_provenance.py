"""What a run records of the code that made it: changes, but no data and no secrets."""

import shutil
import subprocess
from types import SimpleNamespace

import pytest

from {{ cookiecutter.__package }}.lifecycle import provenance
from {{ cookiecutter.__package }}.ops import shell

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
CODE = "".join(f"line {number}\n" for number in range(9))
SETTINGS = "MLFLOW_PORT=1\nMLFLOW_TRACKING_PASSWORD=hunter2\nMLFLOW_WORKERS=1\n"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Return a project's folder, all committed, below the root of its repository."""
    root = tmp_path / "project"
    (root / "src").mkdir(parents=True)
    monkeypatch.setattr(shell, "ROOT", root)
    monkeypatch.setattr(provenance, "ROOT", root)
    monkeypatch.setattr(provenance, "PACKAGE", root / "src")
    (root / "src" / "code.py").write_text(CODE)
    (root / "mlflow.env").write_text(SETTINGS)
    for name in ("rows.csv", ".env.local", "server.pem", "large.json", "picture.bin", "note.txt"):
        (root / name).write_text("as it was\n")
    for words in (
        ["init", "-q", "."],
        ["add", "-A"],
        ["-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-qm", "first"],
    ):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return root


def test_changed_and_new_code_is_kept_and_can_be_applied(repository):
    assert provenance.changes() == ""
    (repository / "src" / "code.py").write_text(CODE.replace("line 4", "line four"))
    (repository / "src" / "new file.py").write_text("NEW = 1\n")
    (repository / "note.txt").unlink()
    (found := repository / "changes.diff").write_text(provenance.changes())
    assert "+line four" in found.read_text() and "+NEW = 1" in found.read_text()
    assert "left out" not in found.read_text()

    subprocess.run(["git", "checkout", "-q", "."], cwd=repository, check=True)
    (repository / "src" / "new file.py").unlink()
    subprocess.run(["git", "apply", "--directory=project", found], cwd=repository, check=True)
    assert "line four" in (repository / "src" / "code.py").read_text()
    assert (repository / "src" / "new file.py").read_text() == "NEW = 1\n"
    assert not (repository / "note.txt").exists()


def test_data_and_secrets_are_left_out_and_named(repository):
    (repository / "rows.csv").write_text("Ada,1815\n")
    (repository / ".env.local").write_text("KEY=hunter2\n")
    (repository / "server.pem").write_text("hunter2\n")
    (repository / "large.json").write_text("9" * 300_000)
    (repository / "src" / "large.py").write_text("9" * 300_000)
    (repository / "picture.bin").write_bytes(b"\0\1\2")
    (repository / "note.txt").write_text("-----BEGIN RSA PRIVATE KEY-----\nhunter2\n")
    (repository / "src" / "credentials.json").write_text("hunter2\n")
    text = provenance.changes()
    assert "hunter2" not in text and "Ada" not in text and "99" not in text
    assert len(text) < 1000
    for line in (
        "# left out: rows.csv, it looks like data (SHA-256 ",
        "# left out: .env.local, it looks like a secret\n",
        "# left out: server.pem, it looks like a secret\n",
        "# left out: large.json, it is binary or larger than 256 kB (SHA-256 ",
        "# left out: src/large.py, it is binary or larger than 256 kB (SHA-256 ",
        "# left out: picture.bin, it is binary or larger than 256 kB (SHA-256 ",
        "# left out: note.txt, it holds a secret key\n",
        "# left out: src/credentials.json, it looks like a secret\n",
    ):
        assert line in text
    (repository / "rows.csv").write_text("Ada,1816\n")
    assert provenance.changes() != text  # as `reproduce` has to see


def test_a_password_in_the_settings_is_replaced(repository):
    changed = SETTINGS.replace("hunter2", "hunter3").replace("WORKERS=1", "WORKERS=4")
    store = "MLFLOW_BACKEND_STORE_URI=postgresql://ada:hunter2@example.org/mlflow\n"
    (repository / "mlflow.env").write_text(changed + store)
    text = provenance.changes()
    assert "hunter" not in text
    assert text.startswith("# replaced by ***: passwords and keys in mlflow.env\n")
    assert "+MLFLOW_TRACKING_PASSWORD=***" in text and "+MLFLOW_WORKERS=4" in text
    assert "postgresql://***@example.org/mlflow" in text


def test_more_changes_than_there_is_room_for_are_named(repository, monkeypatch):
    monkeypatch.setattr(provenance, "MOST", 500)
    (repository / "note.txt").write_text("short\n")
    (repository / "src" / "code.py").write_text(CODE * 20)
    text = provenance.changes()
    assert "+short" in text and "# left out: src/code.py, more than 1 MB or 200 files" in text


def test_a_project_whose_name_sounds_like_a_secret_keeps_its_code(repository, monkeypatch):
    """Only names below the package tell what a file is."""
    package = repository / "src" / "secret_data"
    package.mkdir()
    monkeypatch.setattr(provenance, "PACKAGE", package)
    (package / "new.py").write_text("NEW = 1\n")
    assert "+NEW = 1" in provenance.changes() and "+NEW = 1" in provenance.code()


def test_without_a_commit_the_code_itself_is_kept_and_can_be_applied(repository, tmp_path):
    source = repository / "src"
    (source / "deep").mkdir()
    (source / "deep" / "end.py").write_text("no newline at the end")
    (source / "rows.csv").write_text("Ada,1815\n")
    (source / "server.pem").write_text("hunter2\n")
    (source / "model.bin").write_bytes(b"\0\1")
    text = provenance.code()
    assert "Ada" not in text and "hunter2" not in text
    for line in ("rows.csv, it looks like data (SHA-256 ", "model.bin, it is binary or larger"):
        assert f"# left out: {line}" in text
    assert "# left out: server.pem, it looks like a secret\n" in text
    (new := tmp_path / "new").mkdir()
    (patch := tmp_path / "code.diff").write_text(text)
    subprocess.run(["git", "apply", "--unsafe-paths", patch], cwd=new, check=True)
    for name in ("code.py", "deep/end.py"):
        assert (new / "src" / name).read_text() == (source / name).read_text()


def test_the_hash_of_the_code_does_not_depend_on_git(repository):
    source = repository / "src" / "code.py"
    first = provenance.code_hash()
    (repository / "src" / "__pycache__").mkdir()
    (repository / "src" / "__pycache__" / "code.pyc").write_text("compiled")
    source.write_bytes(CODE.replace("\n", "\r\n").encode())  # as git may write it on Windows
    assert provenance.code_hash() == first
    source.write_text(CODE.replace("line 4", "line four"))
    changed = provenance.code_hash()
    assert changed != first
    (repository / "src" / "query.sql").write_text("SELECT 1")
    assert provenance.code_hash() not in (first, changed)


def test_files_are_counted_in_all_folders():
    def list_artifacts(path):
        below = {None: ["a", "b/"], "b/": ["b/c", "b/d/"], "b/d/": ["b/d/e"]}[path]
        return [SimpleNamespace(path=name, is_dir=name.endswith("/")) for name in below]

    assert provenance.count(list_artifacts) == 3
