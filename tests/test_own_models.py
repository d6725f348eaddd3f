"""A user replaces `data.py` and `model.py`, nothing else, and every command works."""

import contextlib
import http.client
import json
import re
import shutil

import pytest
from conftest import HANG_SECONDS, ROOT, Running, free_port
from test_history import History

pytestmark = pytest.mark.slow
OWN = ROOT / "tests" / "own_models"


@pytest.fixture(scope="module")
def history(uv_project, tmp_path_factory):
    """Return a history that the sample's champion is in: a user tries the sample first."""
    history = History(uv_project, tmp_path_factory.mktemp("own") / "history")
    with history.serving():
        for words in ("train -p n_estimators=3", "promote"):
            done = history.run(words)
            assert not done.returncode, done.stderr
        yield history


@contextlib.contextmanager
def replaced(project, name):
    """Put the two files of a model of one's own into the project; its dependency, where it has."""
    package = project.path / "src" / project.package
    ours = ("data.py", "model.py")
    kept = {file: file.read_bytes() for file in project.path.glob("*") if file.is_file()}
    kept |= {package / file: (package / file).read_bytes() for file in ours}
    try:
        for file in ours:
            shutil.copy(OWN / name / file, package / file)
        if name == "boosting":
            done = project.run("uv add lightgbm")
            assert not done.returncode, done.stderr
        yield
    finally:
        for file, content in kept.items():
            file.write_bytes(content)
        if name == "boosting":
            assert not project.run("uv sync").returncode


def ask(history, *questions):
    """Return status and content of the answer that `serve` gives to each list of rows."""
    port = free_port()
    command = f"exec {history.project.script('my-ml-project')} serve --port {port}"
    serving = Running(command, history.project.path, history.project.environ | history.env)
    try:
        serving.expect("Serving  version")
        for rows in questions:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_SECONDS)
            body = json.dumps({"dataframe_records": rows})
            connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            yield answer.status, json.load(answer)
    finally:
        serving.end()


@pytest.mark.parametrize("name", ["regression", "text", "boosting"])
def test_every_command_works_with_two_files_replaced(history, name, tmp_path):
    def run(words, code=0):
        done = history.run(words)
        assert done.returncode == code and "Traceback" not in done.stderr, done.stdout + done.stderr
        return done.stdout + done.stderr

    project, rows = history.project, tmp_path / "rows.csv"
    with replaced(project, name):
        own = project.run(f"{project.script('pytest')} -q tests/test_model.py")
        assert not own.returncode, own.stdout
        records = json.loads(project.python(f"""
from my_ml_project import data
frame = data.load()
frame.to_csv({str(rows)!r}, index=False)
print(data.split(frame)[1].head(60).drop(columns=data.TARGET).to_json(orient="records"))
"""))  # fmt: skip
        run_id = re.search(r"/runs/(\w+)", run("train --seed 1"))[1]
        if name == "regression":
            told = run("promote", 1)
            assert "predicts malignant, but TARGET in" in told and "promote --unopposed" in told
        assert "is the champion (before: " in run("promote --unopposed")
        assert "Reproduced, within" in run(f"reproduce {run_id}")
        assert "(alias challenger)" in run("tune --trials 3")

        run(f"predict {rows} {tmp_path}/out.parquet")
        found = project.python(f"""
import pandas as pd
found = pd.read_parquet({str(tmp_path / "out.parquet")!r})
print(found.prediction.nunique() > 2, "probability" in found)""")
        assert found == f"True {name != 'regression'}"
        gap = [records[0] | {"bmi": None}]
        (status, answer), *others = ask(history, records, *([gap] if name == "regression" else []))
        assert status == 200 and len(answer["predictions"]) == len(records)
        told = run("monitor")
        assert f"Verdict  on {len(records)} rows" in told and "stable" in told
        if name == "regression":  # it takes no missing value, from nowhere
            told = run(f"monitor {rows}")  # the file has the target: live quality, too
            assert "held-out rows" in told and "Verdict" in told
            ((status, answer),) = others
            assert status == 400 and "bmi is missing in row 1" in answer["message"]
            project.python(f"""
import pandas as pd
rows = pd.read_csv({str(rows)!r})
rows.loc[2, "bmi"] = None
rows.to_csv({str(rows)!r}, index=False)""")
            told = run(f"predict {rows} {tmp_path}/out.csv", 1)
            assert "The model refuses rows 1 to 442: Input X contains NaN" in told
            assert "bmi is missing in row 3" in told and not (tmp_path / "out.csv").exists()
    history.is_well()
