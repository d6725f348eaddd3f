"""`train` as a user meets it: what is tracked, what is registered, and what is refused."""

import json
import re
import signal
import urllib.request

import pytest
from conftest import HANG_SECONDS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def api(uv_project, server):
    """Return a function that asks MLflow's REST API."""

    def ask(path, **body):
        request = urllib.request.Request(
            f"{uv_project.uri}/api/2.0/mlflow/{path}",
            json.dumps(body).encode() if body else None,
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=HANG_SECONDS) as answer:
            return json.load(answer)

    return ask


def run_of(api, said):
    """Return the run that the last lines of `train` link to."""
    run_id = said.rsplit("/runs/", 1)[1].partition("?")[0]
    return api(f"runs/get?run_id={run_id}")["run"]


def newest(api):
    return api("runs/search", experiment_ids=["1"], max_results=1)["runs"][0]


def pairs(items):
    return {item["key"]: item["value"] for item in items}


def test_it_says_first_where_and_last_what(uv_project, trained):
    lines = trained.splitlines()
    assert lines[:2] == [
        f"Server   {uv_project.uri}",
        f"History  {uv_project.path / 'tracking'}",
    ]
    assert lines[-3].startswith(f"Run      {uv_project.uri}/#/experiments/")
    assert lines[-2].startswith(f"Version  {uv_project.uri}/#/models/my-ml-project/versions/")
    assert lines[-2].endswith(" (alias challenger)")
    assert lines[-1] == "Next     .venv/bin/my-ml-project promote"


def test_a_run_tells_all_that_made_it(api, trained):
    run = run_of(api, trained)
    assert run["info"]["status"] == "FINISHED"
    data = run["data"]
    assert pairs(data["params"]) == {
        "n_estimators": "50", "max_depth": "None", "min_samples_leaf": "1", "seed": "0",
    }  # fmt: skip
    assert {"roc_auc", "accuracy", "recall"} <= set(pairs(data["metrics"]))
    assert pairs(data["metrics"])["roc_auc"] > 0.95
    assert pairs(data["tags"])["git"] == "none"

    inputs = run["inputs"]["dataset_inputs"]
    assert {pairs(one["tags"])["mlflow.data.context"] for one in inputs} == {"training", "held_out"}
    digests = {one["dataset"]["digest"] for one in inputs}
    assert len(digests) == 2 and all(len(digest) == 32 for digest in digests)

    def files(path):
        found = api(f"artifacts/list?run_id={run['info']['run_id']}&path={path}")["files"]
        return {file["path"] for file in found}

    assert files("plots") == {
        "plots/confusion_matrix.png", "plots/roc_curve.png", "plots/permutation_importance.png",
    }  # fmt: skip
    assert files("data") == {"data/rows.npz", "data/reference.parquet"}
    assert files("") == {"data", "origin", "plots", "training.json"}


def test_the_model_comes_back_by_its_alias_without_pickle(uv_project, trained):
    printed = uv_project.python(
        "import mlflow, my_ml_project.data as data\n"
        "name = 'models:/my-ml-project@challenger'\n"
        "info = mlflow.models.get_model_info(name)\n"
        "X = data.split(data.load())[1].drop(columns=data.TARGET)\n"
        "print(len(mlflow.pyfunc.load_model(name).predict(X)))\n"
        "print(info.flavors['sklearn']['serialization_format'])\n"
        "print(len(info.signature.inputs.inputs), info.signature.outputs is not None)\n"
        "print(len(mlflow.pyfunc.load_model(name).input_example))\n"
        "print(*[r.strip() for r in open(mlflow.pyfunc.get_model_dependencies(name))])",
    ).splitlines()
    assert printed[:4] == ["143", "skops", "30 True", "5"]
    names = {requirement.partition("==")[0] for requirement in printed[4].split()}
    assert names == {"mlflow", "numpy", "pandas", "scikit-learn", "skops"}
    assert not list(uv_project.path.glob("tracking/artifacts/**/*.pkl"))


def test_two_runs_differ_by_what_was_typed_and_repeat_with_the_same_seed(uv_project, api, trained):
    typed = f"{uv_project.train.strip()} -p n_estimators=10 -p max_depth=2 --seed 5"
    first, again = (uv_project.run(typed) for _ in range(2))
    assert not first.returncode, first.stderr
    runs = [run_of(api, said)["data"] for said in (trained, first.stdout, again.stdout)]
    assert pairs(runs[1]["params"]) == {
        "n_estimators": "10", "max_depth": "2", "min_samples_leaf": "1", "seed": "5",
    }  # fmt: skip
    metrics = [pairs(run["metrics"]) for run in runs]
    assert metrics[1] == metrics[2] != metrics[0]
    version = api("registered-models/alias?name=my-ml-project&alias=challenger")["model_version"]
    assert f"/versions/{version['version']}?" in again.stdout


def test_the_commit_is_tracked_with_a_dirty_flag(uv_project, api, trained, environ):
    """Committed as the guide says: neither history nor environment goes into git."""
    git = "git init -q && git add -A && git commit -qm first && git status --porcelain"
    new = uv_project.path / "src" / "my_ml_project" / "new.py"
    try:
        done = uv_project.run(git)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        listed = uv_project.run("git ls-files").stdout.split()
        assert "uv.lock" in listed and "tracking/.gitkeep" in listed
        assert not [name for name in listed if name.endswith(".db") or ".venv" in name]
        commit = uv_project.run("git rev-parse HEAD").stdout.strip()
        typed = f"{uv_project.train.strip()} -p n_estimators=3"
        clean = run_of(api, uv_project.run(typed).stdout)
        assert pairs(clean["data"]["tags"])["git"] == commit
        assert pairs(clean["data"]["tags"])["git_dirty"] == "false"
        new.write_text("NEW = 1\n")
        dirty = run_of(api, uv_project.run(typed).stdout)
        assert pairs(dirty["data"]["tags"])["git_dirty"] == "true"
        place = f"tracking/artifacts/1/{dirty['info']['run_id']}/artifacts/origin/changes.diff"
        assert "+NEW = 1" in uv_project.read(place)
    finally:
        uv_project.run(f"rm -rf .git {new}")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ("-p n_estimators=-5", 1, "cannot be fitted with {'n_estimators': -5}"),
        ("-p max_depth=deep", 1, "cannot be fitted with {'max_depth': 'deep'}"),
        ("-p trees=5", 2, "model.py has no"),
        ("-p trees", 2, "is not of the form name=value"),
        ("-p a={[]:1}", 2, "model.py has no"),
        ("--seed x", 2, "Invalid value for '--seed'"),
        ("--seed 4294967296", 2, "Invalid value for '--seed'"),
    ],
)
def test_a_wrong_parameter_gets_a_sentence(uv_project, api, trained, words, code, sentence):
    before = newest(api)["info"]["run_id"]
    done = uv_project.run(f"{uv_project.train.strip()} {words}")
    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    run = newest(api)["info"]
    if code == 1:  # only the model itself can say so: its run does not look finished
        assert run["run_id"] != before and run["status"] == "FAILED"
    else:
        assert run["run_id"] == before


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_run_that_is_ended_does_not_look_finished_or_running(
    uv_project, api, trained, running, how
):
    before = newest(api)["info"]["run_id"]
    command = running(f"{uv_project.script('my-ml-project')} train", uv_project.path)
    command.expect("Training on")
    assert command.end(how) != 0
    assert newest(api)["info"]["run_id"] != before
    assert newest(api)["info"]["status"] == "FAILED"


def test_neither_a_proxy_nor_the_plainest_locale_is_in_the_way(uv_project, api, trained):
    """What stays on this machine passes no proxy."""
    nobody = "http://127.0.0.1:9"
    proxies = {name: nobody for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY")}
    done = uv_project.run(uv_project.train, **proxies, no_proxy="example.org", LC_ALL="C")
    assert not done.returncode, done.stderr
    assert run_of(api, done.stdout)["info"]["status"] == "FINISHED"


def test_an_untrusted_type_is_named_before_anything_is_registered(uv_project, api, trained):
    source = uv_project.path / "src/my_ml_project/model.py"
    kept = source.read_text()
    try:
        source.write_text(kept.replace('"numpy.dtype", ', ""))
        done = uv_project.run(uv_project.train)
    finally:
        source.write_text(kept)
    assert done.returncode == 1
    assert "types that skops does not know: numpy.dtype. Read what they are" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["ruff check .", "ruff format --check .", "mypy"])
def test_the_project_is_clean_for_its_own_tools(uv_project, words):
    done = uv_project.run(f"{uv_project.bin}/{words}")
    assert not done.returncode, done.stdout + done.stderr


def test_the_project_is_clean_for_its_own_pre_commit(uv_project):
    """Its hooks come from the package index: there is no other host here."""
    git = "git init -q && git add -A"
    done = uv_project.run(
        f"{git} && uv run pre-commit run --all-files; code=$?; rm -rf .git; exit $code"
    )
    assert not done.returncode, done.stdout + done.stderr
    assert done.stdout.count("Passed") == 2


def test_an_experiment_that_was_deleted_gets_a_sentence(uv_project, api, trained):
    api("experiments/delete", experiment_id="1")
    try:
        done = uv_project.run(uv_project.train)
    finally:
        api("experiments/restore", experiment_id="1")
    assert done.returncode == 1
    assert "MLflow refuses: " in done.stderr and "restore the experiment" in done.stderr
    assert "Traceback" not in done.stderr


def test_after_all_that_nothing_is_wrong(uv_project, trained):
    """Runs that failed or were ended, too: none lacks a file that was logged."""
    done = uv_project.run(f"{uv_project.script('my-ml-project')} doctor")
    assert not done.returncode, done.stdout
    assert "each with its run or model" in done.stdout


@pytest.mark.slow
def test_the_guide_s_table_is_what_help_says(uv_project):
    """Every command is in it, with options that it has; its help has an example."""
    cells = re.findall(
        r"^\| `([a-z-]+(?: [a-z]+)?)[^`]*` \|(.*)\|$", uv_project.read("README.md"), re.M
    )
    rows = {name.removeprefix("my-ml-project "): cell for name, cell in cells if "my-ml" in name}
    told = uv_project.run(f"{uv_project.script('my-ml-project')} --help").stdout
    listed = re.findall(r"^[│|\s]+([a-z]+)\s{2,}\S", told.partition("Commands")[2], re.MULTILINE)
    assert {*rows} == {*listed}
    rows |= {"start-server": dict(cells)["start-server"]}
    for name, cell in rows.items():
        command = name if name == "start-server" else f"my-ml-project {name}"
        told = uv_project.run(f"{uv_project.script(command)} --help").stdout
        assert {*re.findall(r"--[a-z-]+", cell)} <= {*re.findall(r"--[a-z-]+", told)}, name
        assert f"Example: {command}" in " ".join(told.split()), told
