"""A newer template comes into a project by cruft, and the project's own tests pass then."""

import json
import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import INSTALL_SECONDS, Project, free_port

# What people change in a project, and what a newer template may: not in the same lines.
EDITS = {
    "README.md": "\nOurs.\n",
    "src/my_ml_project/data.py": "\n\nOURS = 1\n",
    "src/my_ml_project/model.py": "\n\nMARGIN = 0.001\n",
    "mlflow.env": "MLFLOW_HTTP_REQUEST_TIMEOUT=60\n",
    "pyproject.toml": "\n[tool.ours]\nanswer = 42\n",
}
KEPT = {"tracking/mlflow.db": "history", "data/rows.csv": "a,b\n", "uv.lock": "version = 1\n"}
NEWER = {
    "README.md": ("## Three commands", "## Three commands to begin with"),
    "mlflow.env": ("# Host names that", "# Newer: host names that"),
    "pyproject.toml": ("optuna>=4.5", "optuna>=4.6"),
    "src/{{cookiecutter.__package}}/lifecycle/gate.py": ('"""', '"""Newer: '),
    "src/{{cookiecutter.__package}}/model.py": ('"""The model', '"""Newer: the model'),
}


@pytest.fixture
def update(checkout, environ, path_of, tmp_path):
    """Return a function that makes a project, edits it, updates it, and returns its folder."""
    template, project = tmp_path / "template", tmp_path / "my-ml-project"
    commit = "git init -q && git add -A && git commit -qm all"
    cruft = f"{sys.executable} -m cruft"
    env = environ | path_of(uv=f"touch {tmp_path}/called")

    def shell(command, cwd):
        subprocess.run(["bash", "-c", command], cwd=cwd, env=env, check=True)

    def update(made_by, *answers):
        shutil.copytree(checkout, template)
        shell(commit, template)
        if made_by == "cruft":
            shell(f"{cruft} create --no-input {template}", tmp_path)
        else:
            words = f"{sys.executable} -m cookiecutter --no-input {template} setup=later"
            shell(f"{words} description='Ours, as well.' {shlex.join(answers)}", tmp_path)
            given = json.loads((project / "template.json").read_text())["answers"]
            context = shlex.quote(json.dumps(given))
            shell(f"git init -q && {cruft} link {template} -y --extra-context {context}", project)
            assert "Ours, as well." in (project / ".cruft.json").read_text()
        for name, text in EDITS.items():
            with (project / name).open("a", encoding="utf-8") as file:
                file.write(text)
        for name, text in KEPT.items():
            (project / name).write_text(text, encoding="utf-8")
        shell(commit, project)
        for name, (old, new) in NEWER.items():
            (file,) = (template / "{{cookiecutter.project_slug}}").glob(
                "*README*'en'*" if name == "README.md" else name
            )
            assert old in file.read_text("utf-8")
            file.write_text(file.read_text("utf-8").replace(old, new, 1), encoding="utf-8")
        shell("git commit -qam newer", template)
        shell(f"{cruft} update --skip-apply-ask", project)
        return project

    return update


@pytest.mark.parametrize("made_by", ["cruft", "cookiecutter"])
def test_cruft_updates_a_project_and_keeps_what_its_owner_did(update, made_by, tmp_path):
    """Files only, edits kept, nothing of the history touched, no conflict; linked from either."""
    project = update(made_by)
    assert not list(project.rglob("*.rej"))
    for name, (_, new) in NEWER.items():
        place = project / name.replace("{{cookiecutter.__package}}", "my_ml_project")
        assert new in place.read_text("utf-8"), name
    for name, text in (EDITS | KEPT).items():
        assert (project / name).read_text("utf-8").endswith(text), name
    assert not (tmp_path / "called").exists() and not (project / "setup.log").exists()


@pytest.mark.slow
def test_the_project_s_own_tests_pass_after_an_update_and_without_the_internet(
    update, uv_project, tmp_path
):
    """And run most of its code: someone who changes it is told by their own tests."""
    made = update("cookiecutter", f"mlflow_port={free_port()}")
    (made / "uv.lock").unlink()
    project = Project(made, uv_project.environ)

    def state():
        files = [file for file in (made / "tracking").rglob("*") if file.is_file()]
        return {file: file.read_bytes() for file in files}

    before = state()
    tools = f"uv sync -q && uv pip install -q -p .venv --target {tmp_path}/tools coverage"
    done = project.run(tools, timeout=INSTALL_SECONDS)
    assert not done.returncode, done.stderr
    nobody = {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")}
    nobody |= {"PYTHONPATH": f"{tmp_path}/tools", "COVERAGE_FILE": f"{tmp_path}/coverage"}
    coverage = f"{project.script('python')} -m coverage"
    done = project.run(f"{coverage} run --source=src -m pytest", **nobody)
    assert not done.returncode, done.stdout
    assert " passed" in done.stdout and "skipped" not in done.stdout
    assert state() == before and not (made / "backups").exists()
    done = project.run(f"{coverage} report --fail-under=65", **nobody)
    assert not done.returncode, done.stdout
