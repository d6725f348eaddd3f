"""The life of a model after its training, in one story: gate, back, predict, reproduce, serve."""

import contextlib
import csv
import http.client
import json
import re
import signal
import sqlite3
import threading

import psutil
import pytest
from conftest import HANG_SECONDS, Running, free_port, wait_until
from test_history import History

pytestmark = pytest.mark.slow


class Life(History):
    """A history with its server, and what its API says of the registered model."""

    def train(self, *params):
        told = self.done(" ".join(["train", *(f"-p {param}" for param in params)]))
        return re.search(r"/versions/(\d+)", told)[1]

    def done(self, words, code=0):
        """Run what has to end with an exit code; return what it says."""
        done = self.run(words)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def newest_run(self):
        """Return the run that made the newest version."""
        return self.ask("SELECT run_id FROM model_versions ORDER BY version DESC")[0][0]

    def refused(self, words):
        """Run what has to be refused; return what it says, and prove that the champion stays."""
        before = self.aliases()
        done = self.run(words)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert self.aliases().get("champion") == before.get("champion")
        return done.stdout + done.stderr

    def aliases(self):
        return dict(self.ask("SELECT alias, version FROM registered_model_aliases"))

    def tags(self, version):
        query = "SELECT key, value FROM model_version_tags WHERE version = ?"
        with contextlib.closing(sqlite3.connect(self.database)) as opened:
            return dict(opened.execute(query, [version]).fetchall())

    def point(self, version, alias="champion"):
        self.python(f"client.set_registered_model_alias('my-ml-project', {alias!r}, {version!r})")

    def refuses(self, asked):
        """Assert that each call of the project's functions is refused with its sentence."""
        told = self.python(f"""
import json, pathlib
from my_ml_project import config
from my_ml_project.lifecycle import monitor, predict, promote, serve
sentences = []
for call in {[*asked]}:
    try:
        eval(call)
        sentences.append("nothing was refused")
    except config.UserError as error:
        sentences.append(str(error))
print("\\n" + json.dumps(sentences))""")
        for said, sentence in zip(json.loads(told.splitlines()[-1]), asked.values(), strict=True):
            assert sentence in said

    def python(self, code):
        begin = "import mlflow; client = mlflow.MlflowClient()\n"
        return self.project.python(begin + code, **self.env)


@pytest.fixture(scope="module")
def life(uv_project, tmp_path_factory):
    life = Life(uv_project, tmp_path_factory.mktemp("life") / "history")
    with life.serving() as life.server:
        yield life


@contextlib.contextmanager
def changed(file, old, new):
    """Write other text into a file of the project while a block runs."""
    kept = file.read_text()
    assert old in kept
    file.write_text(kept.replace(old, new))
    try:
        yield
    finally:
        file.write_text(kept)


def test_before_there_is_a_champion_each_step_says_what_comes_first(life):
    assert "There is no challenger yet: train one first." in life.refused("promote")
    predict = "predict.predict(pathlib.Path('in.csv'), pathlib.Path('out.csv'))"
    life.refuses({
        "promote.rollback()": "There is no champion to take back.",
        predict: "There is no champion to predict with: promote a version first.",
        f"serve.serve({free_port()}, False)": "There is no champion to serve",
        "monitor.monitor()": "There is no champion to monitor",
    })  # fmt: skip


def test_the_first_champion_has_to_pass_the_thresholds(life):
    bad = life.train("n_estimators=1", "max_depth=1")
    told = life.refused("promote")
    assert (
        "The challenger is refused: roc_auc misses its threshold; "
        "recall misses its threshold." in told
    )
    assert "roc_auc" in told and ">= 0.95" in told and "0.8501" in told
    assert life.aliases() == {"challenger": int(bad)}

    good = life.train("n_estimators=3")
    done = life.run("promote")
    assert not done.returncode, done.stderr
    assert f"Version {good} is the champion (before: none)" in done.stdout
    tags = life.tags(good)
    assert tags["promoted_from"] == "none" and tags["promoted_by"] and tags["promoted_at"]
    assert json.loads(tags["metrics_of_challenger"])["roc_auc"] == pytest.approx(0.9657, abs=1e-3)
    gates = life.ask("SELECT value FROM tags WHERE key = 'verdict' ORDER BY rowid")
    assert gates == [("refused",), ("promoted",)]


def test_a_better_one_is_promoted_an_equal_and_a_worse_one_are_not(life):
    assert "is the champion already" in life.refused("promote")
    first = life.aliases()["champion"]
    better = life.train("n_estimators=30")
    assert not life.run("promote").returncode
    assert life.aliases()["champion"] == int(better)
    tags = life.tags(better)
    assert tags["promoted_from"] == str(first)
    gate = life.python(f"""
run = client.get_run({tags["promoted_in_run"]!r})
print(client.get_experiment(run.info.experiment_id).name, run.data.metrics["tries"])
for one in client.list_artifacts(run.info.run_id, "plots"):
    print(one.path, len(client.list_artifacts(run.info.run_id, one.path)))""").splitlines()
    assert gate == ["my-ml-project-gate 1.0", "plots/challenger 3", "plots/champion 3"]
    assert {"metrics_of_challenger", "metrics_of_champion"} <= tags.keys()

    equal = life.python(f"""
better = client.get_model_version("my-ml-project", {better!r})
print(mlflow.register_model(better.source, better.name).version)""")
    life.point(equal.splitlines()[-1], "challenger")
    told = life.refused("promote")
    assert "The challenger is refused, the champion stays: roc_auc is no better." in told
    life.point(str(first), "challenger")
    assert "The challenger is refused" in life.refused("promote")


def test_one_that_was_trained_on_held_out_rows_gets_no_verdict(life):
    """A split that leaks is refused by `train`; one that is drawn again, by the gate."""
    data = life.project.path / "src" / "my_ml_project" / "data.py"
    with changed(data, "return train, test", "return frame, test"):
        told = life.refused("train")
    assert "143 rows both into the training and the held-out rows" in told
    with changed(data, "random_state=0", "random_state=2"):
        leaked = life.train("n_estimators=3")
    told = life.refused("promote")
    assert "of the 143 held-out rows (load) were among the training rows of the chall" in told
    assert f"version {leaked}" in told and "no verdict" in told


def test_held_out_rows_that_the_champion_saw_are_left_out(life):
    """The data grew, or is split anew: the champion was trained on some that are held out now."""
    data = life.project.path / "src" / "my_ml_project" / "data.py"
    with changed(data, "random_state=0", "random_state=1"):
        life.train("n_estimators=3")
        told = life.refused("promote")
    judged, whole = map(int, re.search(r"Judging  on (\d+) of (\d+) held-out rows", told).groups())
    assert 20 <= judged < whole == 143
    assert "The challenger is refused" in told


def test_rollback_goes_down_the_line_and_stops_at_its_end(life):
    first, second = 2, life.aliases()["champion"]
    done = life.run("rollback")
    assert f"Version {first} is the champion again (taken back: {second})" in done.stdout
    assert "rolled_back_by" in life.tags(second)
    assert f"There was no champion before version {first}: it stays." in life.refused("rollback")
    life.point(str(second), "challenger")
    assert f"judge it all the same: `promote {second}`." in life.refused("promote")
    life.done(f"promote {second}")
    assert life.aliases()["champion"] == second


# Predict


@pytest.fixture(scope="module")
def rows(life, tmp_path_factory):
    """Return a folder with the sample's rows, with a column that the model does not know."""
    folder = tmp_path_factory.mktemp("rows")
    life.python(f"""
from my_ml_project import data
rows = data.load().drop(columns=data.TARGET).assign(patient=lambda f: range(len(f)))
rows.to_csv({str(folder / "in.csv")!r}, index=False)
rows.to_parquet({str(folder / "in.parquet")!r})
""")
    return folder


def test_a_file_is_scored_whole(life, rows):
    (temporary := rows / "temporary").mkdir()
    version = life.aliases()["champion"]
    targets = {"out.csv": "in.csv", "out.parquet": "in.parquet", "b.PARQUET": "in.csv"}
    for target, source in targets.items():
        done = life.run(f"predict {rows / source} {rows / target}", TMPDIR=str(temporary))
        assert not done.returncode, done.stderr
        assert not list(temporary.iterdir())  # of the model's copy
        assert f"Wrote    {rows / target}: 569 rows by version {version}" in done.stdout
    agreed = life.python(f"""
import pandas as pd
from my_ml_project import data
for name in {[*targets]}:
    read = pd.read_csv if name.endswith("csv") else pd.read_parquet
    found = read({str(rows)!r} + "/" + name)
    assert list(found.patient.astype(int)) == list(range(569))
    assert found.mean_radius.dtype == "float64"
    assert set(found.model_version.astype(int)) == {{{version}}}
    assert found.predicted_at.notna().all()
    assert found.probability.between(0.5, 1).all()
    print((found.prediction == data.load()[data.TARGET]).mean())""").split()
    assert len(agreed) == 3 and min(map(float, agreed)) > 0.95
    assert not list(rows.glob(".predict-*"))


def test_rows_that_do_not_fit_are_named(life, rows, tmp_path):
    """The owner's tests have each of them; here one goes through the command line."""
    with (rows / "in.csv").open() as file:
        header, *lines = csv.reader(file)
    area = header.index("mean_area")
    for name, value in (("wrong", "big"), ("gaps", "")):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            changed = [[*row[:area], value, *row[area + 1 :]] for row in lines[:2]]
            csv.writer(file).writerows([header, *lines[2:4], *changed])
    told = life.refused(f"predict {tmp_path / 'wrong.csv'} {tmp_path / 'out.csv'}")
    assert "wrong.csv: 2 values of mean_area are not numbers (rows 3, 4: 'big')." in told
    assert not list(tmp_path.glob("out.*"))
    life.done(f"predict {tmp_path}/gaps.csv {tmp_path}/out.csv")  # the model fills them
    assert "probability_0,probability_1," in (tmp_path / "out.csv").read_text()


def test_a_run_is_reproduced_and_a_change_is_told(life):
    (run_id,) = life.ask("SELECT run_id FROM model_versions WHERE version = 2")[0]
    aliases = life.aliases()
    done = life.run(f"reproduce {run_id}")
    assert not done.returncode, done.stderr
    assert "Code, packages and Python are the same as then." in done.stdout
    assert "Reproduced, within 1e-06" in done.stdout
    assert life.aliases() == aliases
    (again,) = life.ask("SELECT run_uuid FROM tags WHERE key = 'reproduces'")[0]
    assert life.ask("SELECT value FROM tags WHERE key = 'reproduced_by'") == [(again,)]

    data = life.project.path / "src" / "my_ml_project" / "data.py"
    with changed(data, "random_state=0", "random_state=1"):
        done = life.run(f"reproduce {run_id}")
    assert done.returncode == 1
    assert "Code     the files of the package differ" in done.stdout
    assert "Data     the training and held-out rows differ" in done.stdout
    assert "Not reproduced: " in done.stderr and "roc_auc" in done.stderr
    assert "There is no run " + "0" * 32 in life.refused("reproduce " + "0" * 32)


# Serve


class Serving:
    """The project's scoring server, and questions to it."""

    def __init__(self, life, port=None):
        self.port = port or free_port()
        self.temporary = life.folder.parent / f"temporary-{self.port}"
        self.temporary.mkdir()
        command = f"exec {life.project.script('my-ml-project')} serve"
        own = {"TMPDIR": str(self.temporary), "PROJECT_SERVE_PORT": str(self.port)}
        env = life.project.environ | life.env | own
        self.running = Running(command, life.project.path, env)
        self.running.expect("Serving  version")

    def ask(self, path, body=None, kind="application/json", host="127.0.0.1"):
        """Return status, headers and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG_SECONDS)
        headers = {"Content-Type": kind, "Host": host}
        connection.request("POST" if body is not None else "GET", path, body, headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


@pytest.fixture(scope="module")
def service(life, rows):
    serving = Serving(life)
    yield serving
    serving.running.end()


@pytest.fixture(scope="module")
def question(rows):
    return (rows / "in.csv").read_bytes()


def test_it_answers_in_mlflow_s_protocol_for_the_champion(life, service, question):
    version = str(life.aliases()["champion"])
    for path in ("/ping", "/health", "/version"):
        status, headers, _ = service.ask(path)
        assert status == 200 and headers["x-model-version"] == version
    status, headers, body = service.ask("/invocations", question, "text/csv")
    assert status == 200 and len(json.loads(body)["predictions"]) == 569
    assert headers["x-model-version"] == version and headers["x-prediction-id"]
    header, line = question.decode().splitlines()[:2]
    split = {"columns": header.split(","), "data": [[float(value) for value in line.split(",")]]}
    asked = json.dumps({"dataframe_split": split})
    assert service.ask("/invocations", asked)[0] == 200
    record = dict(zip(split["columns"], split["data"][0], strict=True))
    asked = json.dumps({"dataframe_records": [record]})
    status, _, body = service.ask("/invocations?probabilities=true", asked)
    assert status == 200 and {*json.loads(body)["probabilities"][0]} == {"0", "1"}


def test_a_bad_request_is_told_what_is_wrong(service, question):
    header, line = question.decode().splitlines()[:2]
    wrong = [header, line.replace(line.split(",")[0], "big", 1)]
    lacking = [text.partition(",")[2] for text in (header, line)]
    for body, kind, told in (
        ("{", "application/json", "valid JSON"),
        ("{}", "application/json", "exactly one of dataframe_split, "),
        ("\n".join(lacking), "text/csv", "The request lacks the column mean_radius, which"),
        ("\n".join(wrong), "text/csv", "1 value of mean_radius is not a number (row 1: 'big')"),
    ):
        status, _, answer = service.ask("/invocations", body, kind)
        assert status == 400 and told in json.loads(answer)["message"]
    status, _, answer = service.ask("/invocations", b" " * (33 << 20))
    assert status == 413 and "limited to 32 MB" in json.loads(answer)["message"]
    assert service.ask("/ping", host="evil.example")[0] == 400
    connections = psutil.Process(service.running.process.pid).net_connections()
    listening = {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_parquet_is_answered_and_kept(life, service, rows):
    body = (rows / "in.parquet").read_bytes()
    kind = "application/vnd.apache.parquet"
    status, headers, _ = service.ask("/invocations", body, kind)
    assert status == 200
    log = life.project.path / "serving" / f"predictions-{service.port}.jsonl"
    assert headers["x-prediction-id"] in log.read_text().splitlines()[-1]
    told = life.python(f"""
import json
from my_ml_project.lifecycle import requests
record = json.loads(open({str(log)!r}).readlines()[-1])
print(len(requests.rows_of(record["type"], record["input"])))""")
    assert told == "569"


def test_the_alias_moves_under_load_without_a_failed_request(life, service, question):
    """Each answer is that of the version which its header names, and of no other."""
    good, bad = str(life.aliases()["champion"]), "1"
    expected = {}
    for version in (bad, good):
        life.point(version)
        wait_until(lambda v=version: service.ask("/ping")[1]["x-model-version"] == v)
        expected[version] = service.ask("/invocations", question, "text/csv")[2]
    assert expected[good] != expected[bad]

    stop, answers, failures = threading.Event(), {good: 0, bad: 0}, []

    def client():
        while not stop.is_set():
            try:
                status, headers, body = service.ask("/invocations", question, "text/csv")
                version = headers.get("x-model-version")
                if status != 200 or body != expected[version]:
                    failures.append((status, version))
                answers[version] += 1
            except Exception as error:
                failures.append(error)

    clients = [threading.Thread(target=client) for _ in range(8)]
    for thread in clients:
        thread.start()
    try:
        moves = f"""
import time, urllib.request
for n in range(20):
    version = [{bad!r}, {good!r}][n % 2]
    client.set_registered_model_alias("my-ml-project", "champion", version)
    seen = None
    while seen != version:
        time.sleep(0.1)
        ping = "http://127.0.0.1:{service.port}/ping"
        with urllib.request.urlopen(ping, timeout={HANG_SECONDS}) as answer:
            seen = answer.headers["x-model-version"]
"""
        life.python(moves)
    finally:
        stop.set()
        for thread in clients:
            thread.join()
    assert failures == [] and min(answers.values()) > 20
    assert [path for path in service.temporary.rglob("*") if path.is_file()] == []


def test_a_version_that_does_not_load_leaves_the_old_one_serving(life, service, question):
    good = str(life.aliases()["champion"])
    broken = life.python("""
run = client.search_runs(["1"], max_results=1)[0].info
made = client.create_model_version("my-ml-project", f"{run.artifact_uri}/nothing", run.run_id)
print(made.version)""").splitlines()[-1]
    life.point(broken)
    wait_until(lambda: json.loads(service.ask("/health")[2])["trouble"])
    status, headers, body = service.ask("/health")
    assert status == 200 and json.loads(body)["version"] == good
    assert service.ask("/invocations", question, "text/csv")[1]["x-model-version"] == good
    service.running.expect("Trouble  ")
    life.point(good)
    wait_until(lambda: not json.loads(service.ask("/health")[2])["trouble"])


def test_it_goes_on_without_mlflow_s_server_and_its_log_survives_kill_9(life, question):
    """That log begins with what an earlier crash has cut."""
    port = free_port()
    log = life.project.path / "serving" / f"predictions-{port}.jsonl"
    log.write_text('{"id": "cut')
    serving = Serving(life, port)
    family = life.server.children()
    for process in family:
        process.suspend()
    try:
        status, headers, answer = serving.ask("/invocations", question, "text/csv")
        assert status == 200
        serving.running.process.send_signal(signal.SIGKILL)
        serving.running.process.wait(HANG_SECONDS)
    finally:
        for process in family:
            process.resume()
        serving.running.end()
    cut, *lines = log.read_text().splitlines()
    assert cut == '{"id": "cut'
    (last,) = map(json.loads, filter(None, lines))
    assert last["id"] == headers["x-prediction-id"]
    assert last["version"] == headers["x-model-version"]
    assert last["input"].encode() == question and json.loads(last["output"]) == json.loads(answer)
    assert not log.parent.stat().st_mode & 0o077


def test_a_taken_port_is_named(life, service):
    told = life.refused(f"serve --port {service.port}")
    assert f"Port {service.port} is taken, or closed to you: use another --port." in told


def test_after_all_that_nothing_is_wrong(life):
    """Gates that promoted and refused, runs that were done again: none lacks a file."""
    assert "each with its run or model" in life.is_well()
