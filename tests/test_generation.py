"""Every answer gives a whole, clean project; an impossible one gives a sentence, no more."""

import json
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import rattler
import yaml
from conftest import ODD_TEXTS, ROOT, Project

QUESTIONS = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
RUFF = [sys.executable, "-m", "ruff"]
ASKED = [name for name in QUESTIONS if not name.startswith("_")]

# Its code is that of the template, file by file.
TEMPLATE = ROOT / "{{cookiecutter.project_slug}}"
CODE = {
    str(file.relative_to(TEMPLATE)).replace("{{cookiecutter.__package}}", "{package}")
    for file in TEMPLATE.rglob("*.py")
}
ALWAYS = CODE | {
    ".devcontainer/devcontainer.json",
    ".gitattributes",
    ".github/workflows/ci.yml",
    ".gitignore",
    ".pre-commit-config.yaml",
    "README.md",
    "data/.gitkeep",
    "mlflow.env",
    "notebooks/explore.ipynb",
    "pyproject.toml",
    "template.json",
    "tracking/.gitkeep",
}
OF_ENVIRONMENT = {"uv": set(), "venv": {"requirements.txt"}, "conda": {"environment.yml"}}

SETS = {
    "default": {},
    "venv, in Spanish": {"environment": "venv", "language": "es"},
    "conda": {"environment": "conda", "author_name": "Ada"},
    "conda, in Spanish": {"environment": "conda", "language": "es"},
    "any text": ODD_TEXTS,
    "longest slug": {"project_slug": "a-" + "b" * 48},
    "shortest slug, other port": {"project_slug": "q", "mlflow_port": "54321"},
    "the scoring server's port": {"mlflow_port": "8081"},
}


@pytest.fixture(params=SETS, ids=SETS, scope="module")
def baked(request, cookies_session):
    """Return one rendered project, which tests only read, and the answers that it was made of."""
    result = cookies_session.bake(extra_context=SETS[request.param] | {"setup": "later"})
    assert result.exception is None
    return result.project_path, result.context


def test_the_questions_are_those_of_the_design_and_each_is_a_sentence():
    assert ASKED == [
        "language", "project_name", "project_slug", "description", "author_name",
        "environment", "mlflow_port", "setup",
    ]  # fmt: skip
    prompts = QUESTIONS["__prompts__"]
    for name in ASKED:
        if isinstance(QUESTIONS[name], list):
            assert set(prompts[name]) == {"__prompt__", *QUESTIONS[name]}
        else:
            assert isinstance(prompts[name], str)


def test_a_project_has_exactly_its_files(baked):
    path, answers = baked
    found = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    package = answers["__package"]
    expected = {name.format(package=package) for name in ALWAYS}
    assert found == expected | OF_ENVIRONMENT[answers["environment"]]


def test_nothing_of_the_template_is_left_and_texts_stand_as_typed(baked):
    path, answers = baked
    files = {file: file.read_text("utf-8") for file in path.rglob("*") if file.is_file()}
    for text in files.values():
        assert "{%" not in text and "cookiecutter." not in text and "{{" not in text
        assert text.endswith("\n") and not text.endswith("\n\n")
    with_port = [file.name for file, text in files.items() if answers["mlflow_port"] in text]
    assert {*with_port} == {"mlflow.env", "template.json"}
    settings = files[path / "mlflow.env"]
    assert settings.count(answers["mlflow_port"]) == 1, "it is the scoring server's, too"
    others = settings.partition("\n# Ours, not MLflow's: ")[2]
    names = {line.partition("=")[0] for line in settings.splitlines() if line[:1].isalpha()}
    assert all(("PROJECT_" in name) == (f"\n{name}=" in others) for name in names)

    for name in (".github/workflows/ci.yml", ".pre-commit-config.yaml"):
        assert yaml.safe_load(files[path / name])
    project = tomllib.loads(files[path / "pyproject.toml"])["project"]
    one_line = {
        name: " ".join(answers[name].splitlines())
        for name in ("project_name", "description", "author_name")
    }
    assert project["description"] == one_line["description"]
    assert project.get("authors", [{"name": ""}])[0]["name"] == one_line["author_name"]
    readme = files[path / "README.md"]
    assert readme.startswith(f"# {one_line['project_name']}\n\n{one_line['description']}\n")


def test_a_project_knows_its_template_and_its_answers(baked):
    path, answers = baked
    kept = json.loads((path / "template.json").read_text("utf-8"))
    assert kept["answers"] == {name: answers[name] for name in ASKED}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert kept["version"] == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"/blob/v{version}/docs/hands-on." in (path / "README.md").read_text("utf-8")
    linked = re.findall(
        rf"/blob/v{version}/(docs/[\w./-]+)", (path / "README.md").read_text("utf-8")
    )
    assert linked and all((ROOT / name).is_file() for name in linked)


def test_the_readme_is_in_the_language_asked_for(baked):
    path, answers = baked
    heading = {"en": "## Three commands", "es": "## Tres comandos"}[answers["language"]]
    assert heading in (path / "README.md").read_text("utf-8")


def test_a_module_is_short_enough_to_be_read(baked):
    path, _ = baked
    lengths = {
        file: len(file.read_text("utf-8").splitlines()) for file in path.rglob("src/**/*.py")
    }
    assert max(lengths.values()) <= 300, max(lengths, key=lengths.get)


def test_the_code_is_clean(baked):
    path, _ = baked
    for words in (["check"], ["format", "--check"]):
        words = [*RUFF, *words, "--no-cache", "."]
        done = subprocess.run(words, cwd=path, capture_output=True, text=True)
        assert not done.returncode, done.stdout


# What a project has in time. After `rm -r tracking` and a restore all is made anew.
PRIVATE = """
    .env .venv/pyvenv.cfg backups/elsewhere.txt backups/one.tar.gz data/rows.csv
    data/more/rows.parquet mlruns/0/meta.yaml notebooks/mlflow.db setup.log
    serving/predictions-8081.jsonl
    tracking/artifacts/1/a/artifacts/rows.parquet tracking/mlflow.db tracking/mlflow.db-journal
    tracking/mlflow.db.lock tracking/mlflow.db.owner tracking/replaced-2026/mlflow.db
    tracking/replaced-2026/artifacts/rows.parquet tracking/restoring/mlflow.db replaced-2/mlflow.db
"""


def git(path, *words):
    done = subprocess.run(["git", *words], cwd=path, capture_output=True, text=True, check=True)
    return done.stdout


def test_git_takes_all_that_was_rendered_and_nothing_of_the_history(cookies, tmp_path):
    path = cookies.bake(extra_context={"setup": "later"}).project_path
    rendered = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    git(path, "init", "-q")
    git(path, "add", "-A")
    assert set(git(path, "ls-files").splitlines()) == rendered
    shutil.rmtree(path / "tracking")
    for name in PRIVATE.split():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()
    git(path, "add", "-A")
    assert set(git(path, "ls-files").splitlines()) == rendered - {"tracking/.gitkeep"}


def test_a_clone_on_windows_has_the_same_line_ends(cookies, tmp_path):
    """In both repositories: git for Windows is set to turn them, and checksums would differ."""
    path = cookies.bake(extra_context={"setup": "later"}).project_path
    for folder in (path, ROOT):
        assert (folder / ".gitattributes").read_text().startswith("* text=auto eol=lf\n")
    git(path, "init", "-q")
    git(path, "config", "core.autocrlf", "true")
    git(path, "add", "-A")
    git(path, "checkout-index", "-q", "-a", f"--prefix={tmp_path}/theirs/")
    files = [file for file in (tmp_path / "theirs").rglob("*") if file.is_file()]
    assert len(files) > 20 and not [file for file in files if b"\r" in file.read_bytes()]


def test_conda_s_file_names_only_python_pip_and_the_project(cookies):
    """Its packages are read by rattler, conda's own rules in a library; nothing is solved."""
    path = cookies.bake(extra_context=SETS["conda"] | {"setup": "later"}).project_path
    content = yaml.safe_load((path / "environment.yml").read_text())
    assert content["channels"] == ["conda-forge", "nodefaults"]
    *packages, pip = content["dependencies"]
    assert pip == {"pip": ["-e ."]}
    specs = [rattler.MatchSpec(package, strict=True) for package in packages]
    assert [spec.name.normalized for spec in specs] == ["python", "pip"]
    assert str(specs[0].version) == QUESTIONS["_requires_python"]
    project = tomllib.loads((path / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == QUESTIONS["_requires_python"]


def test_a_container_for_development_installs_as_the_guide_says(baked):
    """Read as JSON only: no engine runs here. Ports are forwarded as the server prints them."""
    path, answers = baked
    content = json.loads((path / ".devcontainer" / "devcontainer.json").read_text("utf-8"))
    *tool, install = content["postCreateCommand"].rpartition("pip install uv && ")
    assert install.split(" && ") == answers["__install"].splitlines()
    assert any(tool) == (answers["environment"] == "uv")
    assert content["image"].startswith("mcr.microsoft.com/devcontainers/")
    ((_, interpreter),) = content["customizations"]["vscode"]["settings"].items()
    folder = ".conda" if answers["environment"] == "conda" else ".venv"
    assert interpreter == f"${{containerWorkspaceFolder}}/{folder}/bin/python"


def test_venv_s_file_holds_the_project(cookies):
    path = cookies.bake(extra_context={"environment": "venv", "setup": "later"}).project_path
    assert (path / "requirements.txt").read_text() == "-e .\n"


def test_answers_can_be_replayed(cookiecutter, environ, tmp_path):
    """The same project comes from the command line, `--replay` and `--replay-file`."""
    first = cookiecutter(tmp_path / "1", "--no-input", "setup=later", "project_name=Again")
    again = cookiecutter(tmp_path / "2", "--replay")
    replays = f"{environ['HOME']}/.cookiecutter_replay/mlflow-local-template.json"
    file = cookiecutter(tmp_path / "3", "--replay-file", replays)
    assert not (first.returncode or again.returncode or file.returncode)
    made = [Project(tmp_path / number / "again", environ) for number in "123"]
    assert made[0].read("README.md") == made[1].read("README.md") == made[2].read("README.md")
