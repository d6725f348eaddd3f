"""A project anywhere: in any folder, moved, copied, cloned, on another disk."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import INSTALL_SECONDS, Project, free_port
from test_server import WAYS

pytestmark = pytest.mark.slow

# What a user wants back, whatever happened to the folder: runs, files, the model by its alias.
RECALL = """
import mlflow, importlib
data = importlib.import_module("{package}.data")
version = mlflow.MlflowClient().get_model_version_by_alias("{slug}", "challenger")
run = mlflow.get_run(version.run_id)
record = importlib.import_module("{package}.lifecycle.record")
rows = record.row_hashes_of(version.run_id)["held_out"]
plots = mlflow.artifacts.list_artifacts(f"runs:/{{version.run_id}}/plots")
X = data.split(data.load())[1].drop(columns=data.TARGET)
predicted = mlflow.pyfunc.load_model("models:/{slug}@challenger").predict(X)
print(version.version, run.data.metrics["roc_auc"], len(rows), len(plots), predicted.sum())
"""


def recall(project):
    return project.python(RECALL.format(slug=project.slug, package=project.package))


def serving(running, project, way="full path", **env):
    path = {"PATH": project.environ["PATH"]}
    server = running(WAYS[way](project, "start-server"), project.path, **path, **env)
    server.expect("Ready")
    return server


def remake(project):
    """Return the lines of the guide that make the environment again."""
    return f"set -e\n{project.fences[-1]}"


def test_a_project_in_the_hardest_place_is_verified_and_built(odd_project):
    assert "Verified" in odd_project.said
    assert str(odd_project.path) in odd_project.said
    assert odd_project.python("import odd; print(odd.__file__)").startswith(str(odd_project.path))


def test_doctor_finds_a_new_project_well(odd_project):
    command = odd_project.script("odd")
    done = odd_project.run(f"{command} doctor")
    assert done.returncode == 0, done.stdout
    marks = {line[0] for line in done.stdout.splitlines()}
    assert "✓" in marks and marks <= {"✓", "!", " "}
    assert {line.split()[1] for line in done.stdout.splitlines() if line[0] != " "} >= {
        "environment", "settings", "server", "store", "disk", "experiments", "files", "place",
        "strays", "unfinished", "backups",
    }  # fmt: skip
    plain = odd_project.run(f"{command} doctor", PYTHONIOENCODING="cp1252")
    assert plain.returncode == 0 and plain.stdout.startswith("+ environment")


def test_a_history_is_there_after_a_move(odd_project, running, tmp_path):
    """Train, move, make the environment anew with the guide's lines: all is there, by each way."""
    project = odd_project.copy(tmp_path / "it's #1 ñandú")
    assert not project.run(remake(project)).returncode
    server = serving(running, project)
    assert not project.run(f"{project.script('odd')} train -p n_estimators=3").returncode
    before = recall(project)
    server.end()

    old, project.path = project.path, tmp_path / "moved and renamed"
    shutil.move(old, project.path)
    done = project.run(remake(project))
    assert not done.returncode, done.stderr
    server = serving(running, project, "uv run")
    for way in WAYS:
        done = project.run(WAYS[way](project, "start-server"))
        assert done.stdout.startswith(f"This project's server already runs at {project.uri} (")
    assert recall(project) == before
    assert not old.exists()


@pytest.fixture(scope="module")
def copy(odd_project, tmp_path_factory):
    """Return a copy of a whole project, its environment included."""
    return odd_project.copy(tmp_path_factory.mktemp("copies") / "copy")


def test_a_copied_environment_does_not_act_on_the_original(odd_project, copy):
    before = odd_project.history()
    for way, words in (("full path", "start-server --check"), ("active environment", "odd train")):
        done = copy.run(WAYS[way](copy, words))
        assert done.returncode == 1
        assert f"belongs to the project in {copy.path}, but this environment runs" in done.stderr
        assert f"as {copy.path / 'README.md'} says" in done.stderr
    assert odd_project.history() == before


def test_a_link_is_the_same_project_and_uv_run_mends_a_copy_s_environment(
    odd_project, copy, running, tmp_path
):
    """With the original's server up, started through the link, on the port that all name."""
    link = tmp_path / "link"
    link.symlink_to(odd_project.path)
    serving(running, Project(link, odd_project.environ))
    done = odd_project.run(odd_project.script("start-server"))
    told = f"This project's server already runs at {odd_project.uri} (process "
    assert done.stdout.startswith(told)

    before = odd_project.history()
    done = copy.run("uv run odd train")
    assert done.returncode == 1
    assert f"started in {odd_project.path}): write MLFLOW_PORT=" in done.stderr
    done = copy.run("uv run start-server --check")
    assert not done.returncode, done.stderr
    assert str(copy.path / "tracking" / "mlflow.db") in done.stdout
    assert odd_project.history() == before


def test_a_second_person_clones_installs_checks_and_trains(uv_project, running, tmp_path):
    """Another home, another path; the lock file comes along, the history does not."""
    git = "git init -q && git add -A && git commit -qm first"
    assert not uv_project.run(git).returncode
    try:
        subprocess.run(
            ["git", "clone", "-q", uv_project.path, tmp_path / "theirs"],
            env=uv_project.environ,
            check=True,
        )
    finally:
        shutil.rmtree(uv_project.path / ".git")
    home = tmp_path / "home"
    home.mkdir()
    (home / ".cache").symlink_to(Path(uv_project.environ["HOME"], ".cache"))  # of downloads
    theirs = Project(tmp_path / "theirs", uv_project.environ | {"HOME": str(home)})
    assert theirs.history() == ([".gitkeep"], {})
    assert "uv sync --locked" in theirs.read("README.md")
    done = theirs.run("uv sync --locked")
    assert not done.returncode, done.stderr
    assert theirs.read("uv.lock") == uv_project.read("uv.lock")
    told = theirs.run(f"{theirs.script('my-ml-project')} doctor").stdout
    assert "restore a colleague's backup" in told and "MLFLOW_TRACKING_URI in mlflow.env" in told
    port = {"MLFLOW_PORT": str(free_port())}
    serving(running, theirs, **port)
    done = theirs.run(f"{theirs.train.strip()} -p n_estimators=3", **port)
    assert not done.returncode, done.stderr
    assert "/versions/1?" in done.stdout


@pytest.fixture(scope="module")
def own_environment(cookiecutter, environ, uv_project, tmp_path_factory):
    """Return a project of files only, installed as its guide says, in one's own environment.

    As people have them, it holds the packages already.
    """
    folder = tmp_path_factory.mktemp("own")
    answers = ["setup=later", "project_slug=mine"]
    assert not cookiecutter(folder, "--no-input", *answers).returncode
    project = Project(folder / "mine", uv_project.environ)
    for line in ("uv venv -q --seed ../env", "uv pip install -q -p ../env -r pyproject.toml"):
        assert not project.run(line).returncode
    path = f"{folder / 'env' / 'bin'}{os.pathsep}{project.environ['PATH']}"
    project.environ = project.environ | {"PATH": path}
    install, check = "python -m pip install -e .", "start-server --check"
    assert f"`{install}`, then `{check}`" in project.read("README.md")
    done = project.run(f"{install} && {check}", timeout=INSTALL_SECONDS)
    assert not done.returncode, done.stdout + done.stderr
    assert f"{project.path}/tracking/mlflow.db" in done.stdout
    return project


def test_a_globally_installed_mlflow_can_serve_the_history(own_environment, uv_project, running):
    """The guide's command, with another environment's MLflow; the project knows it as its own."""
    port = {"MLFLOW_PORT": str(free_port())}
    command = "mlflow --env-file mlflow.env server"
    assert f"`{command}`" in own_environment.read("README.md")
    elsewhere = f"{uv_project.path}/.venv/bin{os.pathsep}{uv_project.environ['PATH']}"
    server = running(command, own_environment.path, PATH=elsewhere, **port)
    server.expect("Application startup complete")
    done = own_environment.run("start-server", **port)
    assert done.stdout.startswith("This project's server already runs at")
    done = own_environment.run("mine train -p n_estimators=3", **port)
    assert not done.returncode, done.stderr
    assert "(alias challenger)" in done.stdout


def test_two_lines_put_the_history_on_another_disk_where_projects_share_it(
    uv_project, own_environment, running, tmp_path
):
    """Two projects with the same lines have one history and one server."""
    before = own_environment.history()
    readme = own_environment.read("README.md")
    lines = dict(re.findall(r"`(MLFLOW_[A-Z_]+)=([^`]*/data/[^`]*)`", readme))
    same = {name: value.replace("/data", f"{tmp_path}/data") for name, value in lines.items()}
    same["MLFLOW_PORT"] = str(free_port())
    path = {"PATH": own_environment.environ["PATH"]}
    with own_environment.settings(**same), uv_project.settings(**same):
        server = running("start-server", own_environment.path, **path)
        server.expect(f"History  {tmp_path}/data/mlflow")
        done = uv_project.run(uv_project.start)
        assert done.stdout.startswith("This project's server already runs at")
        trains = ((own_environment, "mine train"), (uv_project, uv_project.train.strip()))
        for project, train in trains:
            done = project.run(f"{train} -p n_estimators=3")
            assert not done.returncode, done.stderr
        server.end()
    assert own_environment.history() == before
    assert (tmp_path / "data/mlflow/mlflow.db").exists()
    pictures = (tmp_path / "data/mlflow/artifacts").glob("[12]/*/artifacts/plots/roc_curve.png")
    assert len([*pictures]) == 2
