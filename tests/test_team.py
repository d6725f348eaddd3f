"""A team's servers on real PostgreSQL and a real object store, and a history that moves there."""

import contextlib
import hashlib
import json
import os
import re
import signal
import sqlite3
import urllib.error
import urllib.request

import psutil
import psycopg
import pytest
import services
from conftest import HANG_SECONDS, ROOT, Running, assert_gone, free_port, wait_until
from test_history import History, wait_for_more

pytestmark = pytest.mark.slow
SECRETS = {
    "PROJECT_AUTH": "basic-auth",
    "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "password-of-the-admin",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "0123456789abcdef" * 2,
}
ADA = {
    "MLFLOW_TRACKING_USERNAME": "ada",
    "MLFLOW_TRACKING_PASSWORD": "password-of-ada",
}
# Not among the loopback addresses that a project takes for its own machine's.
FRONT = "127.0.0.2"
FILL = """
import math, mlflow
mlflow.set_experiment("ñandú 🚀")
with mlflow.start_run(run_name="odd"):
    mlflow.log_metrics({"nan": math.nan, "inf": math.inf, "tiny": 5e-324}, step=2**63 - 1)
    mlflow.log_param("p", "x" * 6000)
    mlflow.set_tag("t", "a\\\\N\\r\\n\\tb 🚀")
    mlflow.log_text("hello", "a b/ñ.txt")
    with mlflow.start_run(nested=True):
        pass
client = mlflow.MlflowClient()
client.delete_run(client.create_run("0").info.run_id)

@mlflow.trace
def traced(x):
    return x + 1

traced(1)
mlflow.flush_trace_async_logging()
mlflow.genai.register_prompt("greeting", "Say {{x}}")
"""
# What MLflow has no simple call for: a key (bytes) and a summary of a day (a date).
ROWS = """
INSERT INTO secrets (secret_id, secret_name, encrypted_value, wrapped_dek, kek_version,
    masked_value, created_at, last_updated_at)
VALUES ('s-1', 'key', x'00ff10', x'5c4e0a', 1, '{"a": "b"}', 1, 1);
"""
CHECK = """
import json, math, mlflow
from my_ml_project import config
client = mlflow.MlflowClient()
experiment = client.get_experiment_by_name("ñandú 🚀")
runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
run = runs["odd"]
assert math.isnan(run.data.metrics["nan"]) and run.data.metrics["inf"] > 1e308
assert run.data.metrics["tiny"] == 5e-324 and len(run.data.params["p"]) == 6000
assert client.get_metric_history(run.info.run_id, "tiny")[0].step == 2**63 - 1
assert run.data.tags["t"] == "a\\\\N\\r\\n\\tb 🚀"
assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/a b/ñ.txt") == "hello"
assert len(mlflow.search_traces(locations=[experiment.experiment_id], return_type="list")) == 1
assert mlflow.genai.load_prompt("prompts:/greeting/1").template == "Say {{x}}"
model = mlflow.sklearn.load_model(f"models:/{config.MODEL}@champion")
print(mlflow.set_experiment("another").experiment_id)
"""


class Services:
    """PostgreSQL and an object store, with what a project's commands need to reach them."""

    def __init__(self, port, store):
        self.port = port
        self.env = store | {"PGPASSWORD": "of-the-tests"}

    def sql(self, *statements, database="postgres"):
        """Run statements as PostgreSQL's administrator; return the rows of the last."""
        place = f"postgresql://postgres:of-the-tests@127.0.0.1:{self.port}/{database}"
        with psycopg.connect(place, autocommit=True) as connection:
            for statement in statements:
                found = connection.execute(statement)
            return found.fetchall() if found.description else []

    def database(self, name, template="template0"):
        """Return the address of a new database."""
        self.sql(f"CREATE DATABASE {name} OWNER mlflow TEMPLATE {template}")
        return f"postgresql://mlflow@127.0.0.1:{self.port}/{name}"

    def stores(self, database, bucket=None):
        """Return the settings of a history that is kept here."""
        return {
            "MLFLOW_BACKEND_STORE_URI": database,
            "MLFLOW_ARTIFACTS_DESTINATION": bucket or f"s3://{services.BUCKET}/{free_port()}",
        }


@pytest.fixture(scope="module")
def shared(uv_project):
    """Return the services; the project has the extra `shared` and answers to a name of a team."""
    with services.postgres() as port, services.object_store() as store:
        done = uv_project.run("uv sync --extra shared")
        assert not done.returncode, done.stderr
        found = Services(port, store)
        found.sql("CREATE ROLE mlflow LOGIN PASSWORD 'of-the-tests'")
        hosts = f"localhost,127.0.0.1,localhost:*,127.0.0.1:*,{FRONT}:*"
        with uv_project.settings(MLFLOW_SERVER_ALLOWED_HOSTS=hosts):
            yield found
        assert not uv_project.run("uv sync").returncode


@pytest.fixture(scope="module")
def prepared(shared, uv_project):
    """Return the name of a database with MLflow's tables, to copy."""
    checked(uv_project, shared, shared.stores(shared.database("prepared")))
    return "prepared"


def checked(project, shared, stores):
    env = shared.env | stores | {"MLFLOW_PORT": str(free_port())}
    done = project.run(f"{project.script('start-server')} --check", **env)
    assert not done.returncode, done.stdout + done.stderr


def test_what_is_wrong_is_said_at_once(shared, uv_project):
    """In one sentence, before the server says that it is ready."""
    stores = shared.stores(shared.database("faults")) | {"MLFLOW_PORT": str(free_port())}
    database = stores["MLFLOW_BACKEND_STORE_URI"]
    shared.sql("CREATE ROLE guest LOGIN PASSWORD 'of-the-tests'")
    faults = {
        "password authentication failed": {"PGPASSWORD": "wrong"},
        'database "none" does not exist': {"MLFLOW_BACKEND_STORE_URI": f"{database[:-6]}none"},
        "Connection refused": {
            "MLFLOW_BACKEND_STORE_URI": f"postgresql://m@127.0.0.1:{free_port()}/x"
        },
        'ALTER DATABASE "faults" OWNER TO "guest"': {
            "MLFLOW_BACKEND_STORE_URI": database.replace("mlflow@", "guest@")
        },
        "not of the form postgresql://": {"MLFLOW_BACKEND_STORE_URI": "postgres://x"},
        "SignatureDoesNotMatch": {"AWS_SECRET_ACCESS_KEY": "wrong"},
        "NoSuchBucket": {"MLFLOW_ARTIFACTS_DESTINATION": "s3://nobody/has/it"},
        "MLFLOW_AUTH_ADMIN_PASSWORD has 5 characters": SECRETS
        | {"MLFLOW_AUTH_ADMIN_PASSWORD": "short"},
        "MLFLOW_FLASK_SERVER_SECRET_KEY is not set": SECRETS
        | {"MLFLOW_FLASK_SERVER_SECRET_KEY": ""},
    }
    for sentence, wrong in faults.items():
        done = uv_project.run(uv_project.script("start-server"), **shared.env | stores | wrong)
        assert done.returncode == 1 and sentence in done.stderr, (sentence, done.stderr)
        assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.fixture(scope="module")
def team(shared, uv_project):
    """Return two servers behind nginx, which were started at the same moment on a new database."""
    stores = shared.stores(shared.database("team"))
    ports = free_port(), free_port()
    servers = []
    try:
        for port in ports:
            env = shared.env | stores | SECRETS | {"MLFLOW_PORT": str(port)}
            command = f"exec {uv_project.script('start-server')}"
            servers.append(Running(command, uv_project.path, uv_project.environ | env))
        for server in servers:
            server.expect("Ready")
        with services.nginx(*ports, address=FRONT) as front:
            call(front, "users/create", SECRETS, username="ada", password="password-of-ada")
            yield front, servers
    finally:
        for server in servers:
            server.end()


def call(front, path, login, **body):
    """Return the answer of the API to someone who logs in."""
    names = ("MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD")
    manager = urllib.request.HTTPPasswordMgrWithPriorAuth()
    manager.add_password(None, front, *(login[name] for name in names), is_authenticated=True)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(manager))
    asked = urllib.request.Request(
        f"{front}/api/2.0/mlflow/{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    return json.load(opener.open(asked, timeout=HANG_SECONDS))


def test_a_member_needs_an_address_and_a_login(team, uv_project, tmp_path):
    front, _ = team
    member = {"MLFLOW_TRACKING_URI": front}

    def run(words, code=0, **login):
        done = uv_project.run(f"{uv_project.script(uv_project.slug)} {words}", **member | login)
        assert done.returncode == code and "Traceback" not in done.stderr, done.stdout + done.stderr
        return done.stdout + done.stderr

    for login in ({}, ADA | {"MLFLOW_TRACKING_PASSWORD": "wrong-wrong-wrong"}):
        assert f"{front} asks for a login: set MLFLOW_TRACKING_USERNAME" in run("train", 1, **login)
    assert "not verified" in run("train -p n_estimators=3", **ADA)
    assert "is the champion (before: none)" in run("promote", **ADA)
    uv_project.python(f"""
from my_ml_project import data
data.load().to_csv({str(tmp_path / "in.csv")!r}, index=False)""")
    run(f"predict {tmp_path}/in.csv {tmp_path}/out.csv", **ADA)
    assert "stable" in run(f"monitor {tmp_path}/in.csv", **ADA)
    assert f"{front} answers; backups are made there" in run("doctor", **ADA)
    for words in ("backup", "restore x.tar.gz", "migrate --to postgresql://a@b/c"):
        assert f"The history is at {front}, not in files of this project" in run(words, 1, **ADA)
    done = uv_project.run(uv_project.script("start-server"), **member)
    assert done.returncode == 1 and f"The history of this project is at {front}" in done.stderr

    # Who has no login sees nothing, and nobody is offered what runs commands.
    for path, code in {"": 401, "/ajax-api/3.0/mlflow/assistant/config": 403}.items():
        with pytest.raises(urllib.error.HTTPError) as told:
            urllib.request.urlopen(front + path, timeout=HANG_SECONDS)
        assert told.value.code == code


READ = """
import hashlib, json, pathlib, sys, mlflow
client, lost, count = mlflow.MlflowClient(), [], 0
lines = [json.loads(line) for file in pathlib.Path(sys.argv[1]).glob("client-*.jsonl")
         for line in file.read_text().splitlines()]
known = {}
for said in lines:
    if "run" not in said:
        continue
    run = said["run"]
    if run not in known:
        steps = {(one.step, one.value) for one in client.get_metric_history(run, "m")}
        known[run] = client.get_run(run), steps
    found, steps = known[run]
    count += 1
    if "params" in said and found.data.params != said["params"]:
        lost.append(said)
    if "metrics" in said and not {tuple(one) for one in said["metrics"]} <= steps:
        lost.append(said)
    if "file" in said:
        text = mlflow.artifacts.load_text(f"runs:/{run}/{said['file']}")
        if hashlib.sha256(text.encode()).hexdigest() != said["sha256"]:
            lost.append(said)
    if "finished" in said and found.info.status != "FINISHED":
        lost.append(said)
experiment = client.get_experiment_by_name("writers").experiment_id
ghosts = {run.info.run_id for run in client.search_runs([experiment], max_results=5000)} - {*known}
print(json.dumps({"count": count, "lost": lost[:3], "ghosts": len(ghosts)}))
"""


def test_one_of_two_servers_is_killed_and_no_acknowledged_write_is_lost(team, uv_project, tmp_path):
    front, servers = team
    env = uv_project.environ | ADA | {"MLFLOW_TRACKING_URI": front}
    python, folder = uv_project.script("python"), tmp_path / "log"
    folder.mkdir()
    words = f"exec {python} {ROOT / 'benchmarks' / 'writers.py'} {folder} --clients 8"
    load = Running(words, folder, env)
    try:
        wait_for_more(folder)
        family = [psutil.Process(servers[0].process.pid), *servers[0].children()]
        for process in family:
            process.kill()
        assert_gone(family)
        wait_for_more(folder)
        (folder / "stop").touch()
        assert load.process.wait(HANG_SECONDS) == 0
    finally:
        (folder / "stop").touch()
        load.end()
    (tmp_path / "read.py").write_text(READ)
    done = uv_project.run(f"{python} {tmp_path}/read.py {folder}", MLFLOW_TRACKING_URI=front, **ADA)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["lost"] == [] and found["count"] > 100, (found, done.stderr)
    print("runs that no client knows of:", found["ghosts"])


# The move


@pytest.fixture(scope="module")
def moving(shared, uv_project, tmp_path_factory):
    """Return a history of SQLite's with everything that MLflow keeps."""
    history = History(uv_project, tmp_path_factory.mktemp("moving") / "history", **shared.env)
    with history.serving():
        for words in ("train -p n_estimators=3", "promote", "train -p n_estimators=4"):
            assert not history.run(words).returncode
        uv_project.python(FILL, **history.env)
    with contextlib.closing(sqlite3.connect(history.database)) as opened:
        opened.executescript(ROWS)
    return history


def state(history):
    """Return the hash of the source's database, and the names of its files."""
    files = sorted(str(file) for file in history.artifacts.rglob("*"))
    return hashlib.sha256(history.database.read_bytes()).hexdigest(), files


def rows(shared, database):
    """Return how many rows of MLflow's a database has that it does not make by itself."""
    name = database.rpartition("/")[2]
    if shared.sql("SELECT to_regclass('runs')", database=name) == [(None,)]:
        return 0
    return shared.sql(
        "SELECT (SELECT count(*) FROM runs) + (SELECT count(*) FROM experiments"
        " WHERE experiment_id > 0)",
        database=name,
    )[0][0]


def test_what_cannot_be_moved_is_refused_before_the_first_row(shared, prepared, moving):
    before = state(moving)
    target = shared.database("refused", template=prepared)

    def refused(words=f"migrate --to {target}"):
        done = moving.run(words)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert rows(shared, target) == 0
        return done.stderr

    with moving.serving():
        assert "This history's server runs at" in refused()
    assert "migrate goes from SQLite to PostgreSQL only" in refused("migrate --to sqlite:///x")
    assert "has a password, which others can read" in refused(
        f"migrate --to {target.replace('mlflow@', 'mlflow:secret@')}"
    )
    place = target.replace("mlflow@", "nobody@")
    assert "cannot be opened" in refused(f"migrate --to {place}")

    def alter(sql):
        with contextlib.closing(sqlite3.connect(moving.database)) as opened:
            opened.executescript(sql)

    alter("UPDATE tags SET value = 'a' || char(0) WHERE key = 't';")
    alter("UPDATE experiments SET name = printf('%.400c', 'x') WHERE experiment_id = 0;")
    told = refused()
    assert "tags.value: 1 with a NUL character (first: " in told
    assert "experiments.name: 1 longer than 256 characters (first: 0)" in told
    alter("UPDATE experiments SET name = 'Default' WHERE experiment_id = 0;")
    alter("UPDATE tags SET value = 'a\\N' || char(13, 10, 9) || 'b 🚀' WHERE key = 't';")
    alter("UPDATE runs SET artifact_uri = '/old' || artifact_uri WHERE name = 'odd';")
    assert "The files of 1 row of runs are in another place" in refused()
    alter("UPDATE runs SET artifact_uri = substr(artifact_uri, 5) WHERE name = 'odd';")
    shared.sql("INSERT INTO experiments (name) VALUES ('theirs')", database="refused")
    done = moving.run(f"migrate --to {target}")
    assert done.returncode == 1 and "has a history already (experiments: 1 row)" in done.stderr
    assert state(moving)[1] == before[1]


TRIGGER = """
CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {does}; RETURN NEW; END $$;
CREATE TRIGGER {name} BEFORE INSERT ON params FOR EACH ROW EXECUTE FUNCTION {name}()
"""


def test_a_move_that_is_cut_off_leaves_the_target_empty_and_can_be_repeated(
    shared, prepared, moving
):
    target = shared.database("cut", template=prepared)
    before, words = state(moving), f"migrate --to {target}"

    def constraints():
        asked = "SELECT conrelid::regclass::text, conname, convalidated, pg_get_constraintdef(oid)"
        return shared.sql(f"{asked} FROM pg_constraint ORDER BY 1, 2", database="cut")

    whole = constraints()

    @contextlib.contextmanager
    def trigger(name, does):
        shared.sql(TRIGGER.format(name=name, does=does), database="cut")
        yield
        shared.sql(f"DROP FUNCTION {name} CASCADE", database="cut")
        assert rows(shared, target) == 0 and state(moving) == before

    def working():
        asked = "SELECT pid FROM pg_stat_activity WHERE datname = 'cut' AND query LIKE 'COPY%'"
        return shared.sql(asked)

    sleeps = "PERFORM pg_sleep(600)"
    with trigger("killed", sleeps):
        running = moving.start(f"{moving.project.slug} {words}")
        wait_until(working)
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait()
        shared.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'cut'")
        wait_until(lambda: not working())
    with trigger("cut_off", sleeps):
        running = moving.start(f"{moving.project.slug} {words}")
        wait_until(working)
        shared.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'cut'")
        told = running.expect("was not changed")  # libpq says why in one of two ways
        assert "terminating connection" in told or "server closed the connection" in told
        assert running.process.wait() == 1
    full = "RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'"
    with trigger("disk_full", full):
        done = moving.run(words)
        assert done.returncode == 1 and "no space left on device" in done.stderr
    with trigger("altered", "NEW.value := NEW.value || '.'"):
        done = moving.run(words)
        assert done.returncode == 1 and "The rows of params differ after the copy" in done.stderr
    done = moving.run(words)
    assert not done.returncode and rows(shared, target) > 0, done.stderr
    assert constraints() == whole


def test_a_history_that_was_moved_opens_there_with_every_id(shared, moving, uv_project):
    target, bucket = shared.database("moved"), f"s3://{services.BUCKET}/moved"
    before = state(moving)
    secret = {"AWS_SECRET_ACCESS_KEY": "wrong"}
    words = f"migrate --to {target} --artifacts {bucket}"
    done = moving.run(words, **secret)
    assert done.returncode == 1 and "SignatureDoesNotMatch" in done.stderr
    done = moving.run(words)
    assert not done.returncode, done.stderr
    count, total = re.search(r"Stored   (\d+) files in .*; all (\d+) ", done.stdout).groups()
    assert count == total and int(total) > 20
    assert f"MLFLOW_BACKEND_STORE_URI={target}" in done.stdout
    assert "MLFLOW_CRYPTO_KEK_PASSPHRASE" in done.stdout
    assert state(moving) == before
    found = shared.sql("SELECT encrypted_value, wrapped_dek FROM secrets", database="moved")
    assert [tuple(map(bytes, row)) for row in found] == [(b"\x00\xff\x10", b"\x5c\x4e\x0a")]

    with contextlib.closing(sqlite3.connect(moving.database)) as opened:
        newest = opened.execute("SELECT max(experiment_id) FROM experiments").fetchone()[0]
    here = History(uv_project, moving.folder.parent / "there", **shared.env)
    here.env |= shared.stores(target, bucket)
    with here.serving():
        assert uv_project.python(CHECK, **here.env) == str(newest + 1)
        assert "versions/3" in here.run("train -p n_estimators=5").stdout
        done = here.run("promote")
        assert done.returncode in (0, 1) and "champion" in done.stdout + done.stderr
        assert "can be written to" in here.is_well()
