"""The whole life of a model in one story, through the project's commands only, and its trail."""

import http.client
import json
import random
import re
import shutil
import tarfile

import pytest
from conftest import HANG_SECONDS, wait_until
from test_browser import page as page  # fixtures
from test_browser import picture as picture
from test_life import Life, Serving, changed

pytestmark = pytest.mark.slow
TARGET = "malignant"


@pytest.fixture(scope="module")
def life(uv_project, tmp_path_factory):
    life = Life(uv_project, tmp_path_factory.mktemp("story") / "history")
    with life.serving() as life.server:
        yield life
    shutil.rmtree(uv_project.path / "serving", ignore_errors=True)


@pytest.fixture(scope="module")
def patients(life):
    """Return the sample's rows, as a client would have them."""
    code = "from my_ml_project import data; print(data.load().to_json(orient='records'))"
    return json.loads(life.project.python(code))


class Clinic:
    """A client: it asks about patients one by one, and learns later what they had."""

    def __init__(self, serving, patients, folder):
        self.serving, self.patients, self.folder = serving, patients, folder
        self.random = random.Random(0)

    def ask(self, count, scale=1.0, file="labels.csv"):
        """Ask about `count` patients, measured in a unit of its own; return version and labels."""
        labels, versions, right = [f"id,{TARGET}"], set(), 0
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.serving.port, timeout=HANG_SECONDS
        )
        for _ in range(count):
            patient = dict(self.random.choice(self.patients))
            had = patient.pop(TARGET)
            rows = [{k: v * scale * self.random.gauss(1, 0.02) for k, v in patient.items()}]
            body = json.dumps({"dataframe_records": rows})
            connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            right += json.load(answer)["predictions"] == [had]
            versions.add(answer.headers["x-model-version"])
            labels.append(f"{answer.headers['x-prediction-id']},{had}")
        (version,) = versions
        (self.folder / file).write_text("\n".join(labels) + "\n")
        return version, right / count


def test_a_model_s_life(life, patients, page, picture, tmp_path):
    labels = tmp_path / "labels.csv"
    first = life.train("n_estimators=20")
    assert "is the champion (before: none)" in life.done("promote")
    serving = Serving(life)
    try:
        clinic = Clinic(serving, patients, tmp_path)

        # What is asked is what it was trained on: no alarm.
        # The log also has rows of a version 1 of another history, as after a restore.
        log = life.project.path / "serving" / "predictions-2.jsonl"
        log.write_text(
            '{"id": "x", "version": "1", "run_id": "other", "type": "", "input": "{}"}\n'
        )
        version, right = clinic.ask(250)
        assert version == first and right > 0.9
        told = life.done(f"monitor --labels {labels}")
        assert f"Verdict  on 250 rows of version {first}: stable" in told
        assert "nothing to learn" in life.done(f"monitor --labels {labels} --retrain")

        # A new device measures everything larger: drift, decay, a new champion, served at once.
        version, wrong = clinic.ask(900, scale=1.6)
        assert version == first and wrong < 0.7
        told = life.done(f"monitor --labels {labels} --retrain")
        assert f"Verdict  on 1000 rows of version {first}: drift and decay" in told
        assert holds_on_both_parts(told)
        second = re.search(r"Version (\d+) is the champion \(before: 1\)", told)[1]
        report = re.search(r"Report   (\S+)", told)[1]
        wait_until(lambda: serving.ask("/ping")[1]["x-model-version"] == second)
        version, right = clinic.ask(250, scale=1.6)
        assert version == second and right > 0.9
        told = life.done(f"monitor --labels {labels}")
        assert f"Verdict  on 250 rows of version {second}: stable" in told
        assert "Compared with the held-out labelled rows" in told

        # What was learned is not forgotten, and is in every backup.
        told = life.done("train -p n_estimators=20")
        assert "Labelled 675 to train with and 225 held out, of 1 report\n" in told
        told = life.refused("promote")  # the same model again
        assert "is no better on the labelled rows" in told and holds_on_both_parts(told)
        life.done(f"backup {tmp_path / 'kept.tgz'}")
        report_id = re.search("runs/([0-9a-f]{32})", report)[1]
        with tarfile.open(tmp_path / "kept.tgz") as kept:
            names = [name for name in kept.getnames() if report_id in name]
        assert {"training.parquet", "held_out.parquet"} <= {
            name.rpartition("/")[2] for name in names
        }

        # A bad one is refused; the old one is given back all the same.
        bad = life.train("n_estimators=1", "max_depth=1")
        assert "The challenger is refused" in life.refused("promote")
        life.python(f"client.delete_run({report_id!r})")
        assert "a report with labelled rows deleted" in life.refused("promote")
        life.python(f"client.restore_run({report_id!r})")
        assert f"Version {first} is the champion again" in life.done("rollback")
        wait_until(lambda: serving.ask("/ping")[1]["x-model-version"] == first)
    finally:
        serving.running.end()

    life.is_well()
    read_back(life, first, second, bad)
    see(page, life, first, second, report, picture)


def holds_on_both_parts(told):
    """Return whether the gate printed two parts, and both thresholds hold on each."""
    parts = re.split("Part     (?:load|labelled): ", told)[1:]
    return len(parts) == 2 and all("misses" not in part and ">= 0.85" in part for part in parts)


def read_back(life, first, second, bad):
    """Read the whole trail from MLflow's API."""
    trail = json.loads(life.python(f"""
import json
name = "my-ml-project"
places = [one.experiment_id for one in client.search_experiments()]
runs = client.search_runs(places, order_by=["start_time ASC"])
versions = {{v.version: v for v in client.search_model_versions(f"name='{{name}}'")}}
above = [run for run in runs
         if run.data.tags.get("monitors_run") == versions[{first!r}].run_id]
print(json.dumps({{
    "verdicts": [run.data.tags["verdict"] for run in runs if "verdict" in run.data.tags],
    "unfinished": [run.info.run_id for run in runs if run.info.status != "FINISHED"],
    "tags": {{number: version.tags for number, version in versions.items()}},
    "aliases": client.get_registered_model(name).aliases,
    "retrained": client.get_run(versions[{second!r}].run_id).data.tags["retrained_after"],
    "curve": [m.value for m in client.get_metric_history(above[0].info.run_id, "drifting")],
    "live": [m.value for m in client.get_metric_history(above[0].info.run_id, "live/roc_auc")],
    "places": [[client.get_experiment(run.info.experiment_id).name] for run in runs
               if run.data.tags.get("step") == "monitor"],
    "reports": {{run.info.run_id: run.data.tags["verdict"] for run in runs
                if run.data.tags.get("mlflow.parentRunId") == above[0].info.run_id}},
}}))"""))  # fmt: skip
    assert trail["verdicts"] == [
        "promoted", "stable", "stable", "drift and decay", "promoted", "stable", "refused",
        "refused",
    ]  # fmt: skip
    assert not trail["unfinished"]
    assert trail["aliases"] == {"champion": first, "challenger": bad}
    tags = trail["tags"][second]
    assert tags["promoted_from"] == first and "rolled_back_by" in tags
    gate = (json.loads(tags[f"metrics_of_{one}"])["roc_auc"] for one in ("challenger", "champion"))
    assert next(gate) > next(gate)
    assert trail["reports"][trail["retrained"]] == "drift and decay"
    assert trail["places"] == [["my-ml-project-monitoring"]] * len(trail["places"])
    assert trail["curve"][0] == trail["curve"][1] == 0 < trail["curve"][2]
    assert trail["live"][2] < trail["live"][1]


def see(browser, life, first, second, report, picture):
    """See the trail in MLflow's UI."""
    browser.set_viewport_size({"width": 1280, "height": 1200})  # shows both drawings
    browser.goto(report)
    inside = browser.frame_locator("iframe")
    inside.get_by_text(f"my-ml-project, version {first}: drift and decay").first.wait_for()
    heights = "all => Promise.all(all.map(one => one.decode().then(() => one.naturalHeight)))"
    drawn = inside.locator("img").evaluate_all(heights)
    assert len(drawn) == 2
    if (chat := browser.get_by_role("button", name="Close")).count():  # it covers a third
        chat.first.click()
    words = re.findall("[A-Za-z_]+", inside.locator("body").inner_text())
    picture("drift", [drawn, sorted(set(words))])

    (above,) = life.ask("SELECT run_uuid FROM tags WHERE key = 'monitors' AND value = '1'")[0]
    view = "?workflowType=machine_learning"
    (reports,) = life.ask(
        "SELECT experiment_id FROM experiments WHERE name = 'my-ml-project-monitoring'"
    )[0]
    browser.goto(f"{life.uri}/#/experiments/{reports}/runs/{above}/model-metrics{view}")
    browser.get_by_text("monitoring of version 1 (drift/area_error)").first.wait_for()

    browser.goto(f"{life.uri}/#/experiments/{reports}/runs{view}")
    browser.get_by_text(f"monitoring of version {second}", exact=True).first.wait_for()
    ((gates,),) = life.ask("SELECT experiment_id FROM experiments WHERE name LIKE '%-gate'")
    browser.goto(f"{life.uri}/#/experiments/{gates}/runs{view}")
    browser.get_by_text("gate", exact=True).first.wait_for()
    browser.goto(f"{life.uri}/#/models/my-ml-project/versions/{first}{view}")
    browser.get_by_text("champion").first.wait_for()


# What `monitor` cannot do


def test_before_there_is_something_to_compare_it_says_what_is_missing(life, patients, tmp_path):
    columns = [name for name in patients[0] if name != TARGET]

    def write(name, header, rows):
        lines = [",".join(map(str, row)) for row in [header, *rows]]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return f"pathlib.Path({str(tmp_path / name)!r})"

    values = [[one[name] for name in columns] for one in patients]
    few = write("few.csv", columns, values[:9])
    narrow = write("narrow.csv", columns[1:], [row[1:] for row in values[:60]])
    wrong = write("wrong.csv", [*columns, TARGET], [[*row, "maybe"] for row in values[:60]])
    write("unknown.csv", ["id", TARGET], [[f"x{n}", 1] for n in range(60)])
    nameless = write("nameless.csv", ["number", TARGET], [[1, 1]])
    lines = [",".join(columns), *(",".join(map(str, row)) for row in values[:60])]
    (run_id,) = life.ask("SELECT run_id FROM model_versions WHERE version = 1")[0]
    record = {"id": "big", "run_id": run_id, "type": "text/csv", "input": "\n".join(lines)}
    log = life.project.path / "serving" / "predictions-1.jsonl"  # one request of 60 rows
    log.write_text(json.dumps(record) + "\n")
    write("rowless.csv", ["id", TARGET], [["big", 1]])
    rowful = [["big", n, one[TARGET]] for n, one in enumerate(patients[:60])]
    write("rowful.csv", ["id", "row", TARGET], rowful)
    half = write("half.csv", [*columns, TARGET], [[*row, 1] for row in values[:60]])
    gaps = ["", "", "maybe", *["1"] * 57]
    gapped = write("gapped.csv", ["id", TARGET], [[f"x{n}", gap] for n, gap in enumerate(gaps)])
    labels = [1 if n < 9 else "" for n in range(60)]
    write("sparse.csv", [*columns, TARGET], [[*v, k] for v, k in zip(values, labels, strict=False)])
    asked = {
        f"{few}": "few.csv has 9 rows for the champion, version 1: at least 50 are needed",
        f"{narrow}": "narrow.csv lacks the column mean_radius, which the model needs",
        f"{wrong}": "wrong.csv: 60 values of malignant are not whole numbers (rows 1, 2, 3",
        f"labels={gapped}": "gapped.csv: 1 value of malignant is not a whole number (row 3",
        f"labels={nameless}": "nameless.csv lacks the column id.",
        f"{half}, retrain=True": "there are 60 different rows with one, and at least 200",
        "retrain=True": "there are 0 different rows with one, and at least 200 are needed",
        "pathlib.Path('no.xls')": "no.xls ends neither in .csv nor in .parquet.",
    }
    life.refuses({f"monitor.monitor({call})": sentence for call, sentence in asked.items()})

    def reported(words):
        """Return what a report says that is made though the labels cannot be used."""
        done = life.run(words)
        assert done.returncode in (0, 3), done.stderr  # the first rows of the sample are no sample
        assert re.search(r"Verdict  on \d+ rows of version 1: ", done.stdout)
        assert "decay" not in done.stdout.rpartition("Verdict")[2]
        return done.stdout

    for name, sentence in {
        "unknown.csv": "unknown.csv labels 0 of the rows, at least 50 are needed",
        "rowless.csv": "rowless.csv needs a column row, from 0: a request had several rows",
    }.items():
        told = reported(f"monitor --labels {tmp_path}/{name}")
        assert f"Cannot tell: {sentence}" in re.sub(r"/\S*/", "", told)
    told = reported(f"monitor --labels {tmp_path}/rowful.csv")
    assert re.search(r"accuracy +0\.9\d* +(0\.9|1)", told)
    assert "60 of 60 labels" in told and "0 found none" in told

    told = reported(f"monitor {tmp_path}/sparse.csv")
    assert "9 labels, at least 50 are needed" in told

    shutil.rmtree(life.project.path / "serving")
    assert "has served nothing yet: ask `serve`, or name a file." in life.refused("monitor")


def test_rows_that_split_refuses_are_not_kept(life, patients, tmp_path):
    """A split that leaks is found before anything is stored."""
    file = tmp_path / "now.csv"
    rows = [[value * (1.6 if name != TARGET else 1) for name, value in one.items()]
            for one in patients]  # fmt: skip
    header = [",".join(patients[0])]
    file.write_text("\n".join([*header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    data = life.project.path / "src" / "my_ml_project" / "data.py"
    with changed(data, "return train, test", "return frame, test"):
        told = life.refused(f"monitor {file} --retrain")
    assert "both into the training and the held-out rows" in told and "not kept" in told

    told = life.done(f"monitor {file} --retrain")
    assert "is the champion" in told
    assert "Reproduced, within 1e-06" in life.done("reproduce " + life.newest_run())
    life.is_well()
