"""Sweeps and folders on processes here and on a real Dask cluster, whose parts are killed."""

import re
from contextlib import contextmanager

import pytest
import services
from conftest import Running, assert_gone, free_port
from test_history import History
from test_life import changed

pytestmark = pytest.mark.slow
SPACE = '        "n_estimators": trial.suggest_int("n_estimators", 50, 300, step=50),'
BUILD = '    return make_pipeline(SimpleImputer(strategy="median"), '
# The third trial ends whatever process works on it.
DEADLY = '        "n_estimators": 4 if trial.number == 2 else trial.suggest_int("n", 5, 9),'
KILL = '    if params["n_estimators"] == 4:\n        import os\n\n        os.kill(os.getpid(), 9)\n'
# A fold takes so long that a test can act in the middle of a sweep.
SLOW = "    import time\n\n    time.sleep(0.3)\n"
FAST = '        "n_estimators": trial.suggest_int("n_estimators", 3, 9),'


class Cluster:
    """A scheduler and two workers, started as the guide says."""

    def __init__(self, project, workers=2):
        self.project, self.port = project, free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        options = f"--host 127.0.0.1 --port {self.port} --no-dashboard --no-show"
        self.scheduler = self._start(f"scheduler {options}", "Scheduler at:")
        self.workers = [self._worker() for _ in range(workers)]

    def _start(self, words, ready):
        # By default a task is tried again until it has ended four workers: here, three.
        env = self.project.environ | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "2"}
        command = f"exec {self.project.script('dask')} {words}"
        started = Running(command, self.project.path, env)
        started.expect(ready)
        return started

    def _worker(self):
        options = "--nworkers 1 --nthreads 1 --no-dashboard --host 127.0.0.1"
        return self._start(f"worker {options} {self.address}", "Registered to:")

    def end(self):
        """End all processes: workers wait for ever for a scheduler that was killed."""
        for one in (*self.workers, self.scheduler):
            if one.process.poll() is None:
                services.stop(one.process)


@contextmanager
def cluster(project, **options):
    started = Cluster(project, **options)
    try:
        yield started
    finally:
        started.end()


@pytest.fixture(scope="module")
def history(uv_project, tmp_path_factory):
    """Return a served history of a project with the extra `cluster`."""
    done = uv_project.run("uv sync --extra cluster")
    assert not done.returncode, done.stderr
    history = History(uv_project, tmp_path_factory.mktemp("cluster") / "history")
    with history.serving():
        yield history
    history.is_well()
    assert not uv_project.run("uv sync").returncode


@pytest.fixture
def model(history):
    """Return the `model.py` of a project whose trials take a second or two."""
    file = history.project.path / "src" / history.project.package / "model.py"
    with changed(file, SPACE, FAST), changed(file, BUILD, SLOW + BUILD):
        yield file


def states(history, sweep):
    """Return the states of a sweep's trials, and of their runs."""
    found = history.project.python(
        f"""
import mlflow
for run in mlflow.search_runs(search_all_experiments=True, output_format="list",
                              filter_string="tags.`mlflow.parentRunId` = '{sweep}'"):
    print(run.data.tags["state"], run.info.status)""",
        **history.env,
    )
    return [tuple(line.split()) for line in found.splitlines()]


def ends_well(history, told, count):
    """Assert that a sweep ended in a challenger and that all trials did; return their states."""
    assert "Best     roc_auc" in told and "(alias challenger)" in told, told
    found = states(history, re.search(r"Sweep .*/runs/(\w+)", told)[1])
    assert len(found) == count and {status for _, status in found} <= {
        "FINISHED",
        "KILLED",  # ended early, as it was worse than most
        "FAILED",
    }
    return [state for state, _ in found]


def kill_worker(worker):
    """Kill the process that works; its parent, which starts another, is not touched."""
    busiest = max(worker.children(), key=lambda process: process.memory_info().rss)
    busiest.kill()


def test_a_worker_that_is_killed_costs_nothing(history, model, tmp_path):
    with cluster(history.project) as dask:
        tuning = history.start(f"{history.project.slug} tune --trials 9 --cluster {dask.address}")
        tuning.expect("Trials   9 on 2 at once, 5 folds each")
        tuning.expect("is the best so far")
        kill_worker(dask.workers[0])
        code = tuning.process.wait()
        told = "".join([*tuning.seen, *iter(tuning.lines.get, None)])
        assert not code, told
        found = ends_well(history, told, 9)
        assert "FAIL" not in found and "COMPLETE" in found

        # The same cluster predicts.
        assert not history.run("promote").returncode
        source, target = tmp_path / "in", tmp_path / "out"
        history.project.python(f"""
import pathlib
from my_ml_project import data
rows = data.load().drop(columns=data.TARGET)
pathlib.Path({str(source)!r}, "more").mkdir(parents=True)
for number in range(4):
    rows.to_parquet({str(source)!r} + ("/more" if number % 2 else "") + f"/{{number}}.parquet")
rows.iloc[:, 1:].to_parquet({str(source)!r} + "/short.parquet")""")
        words = f"predict {source} {target}"
        done = history.run(f"{words} --cluster {dask.address}")
        assert done.returncode == 1 and "1 of 5 files failed" in done.stderr
        assert "Failed   short.parquet: " in done.stdout and "Traceback" not in done.stderr
        assert "Wrote    4 files, 2276 rows" in done.stdout
        there = {str(file.relative_to(target)) for file in target.rglob("*.parquet")}
        assert there == {"0.parquet", "2.parquet", "more/1.parquet", "more/3.parquet"}
    (target / "0.parquet").unlink()
    done = history.run(f"{words} --jobs 2")
    assert "Skipped  3 files" in done.stdout and "Wrote    1 file, 569 rows" in done.stdout


def test_a_trial_that_kills_its_worker_fails_alone(history, model):
    with (
        changed(model, FAST, DEADLY),
        changed(model, SLOW, KILL),
        cluster(history.project) as dask,
    ):
        for where in (f"--cluster {dask.address}", "--jobs 2"):
            done = history.run(f"tune --trials 5 {where}")
            assert not done.returncode, done.stdout + done.stderr
            found = ends_well(history, done.stdout, 5)
            assert found.count("FAIL") == 1, done.stdout
            assert re.search(r"Trial    2 failed: \w+", done.stdout)


def test_what_is_done_is_kept_when_the_scheduler_goes(history, model):
    with cluster(history.project) as dask:
        tuning = history.start(f"{history.project.slug} tune --trials 8 --cluster {dask.address}")
        tuning.expect("is the best so far")
        dask.scheduler.process.kill()
        line = tuning.expect("The scheduler of the cluster is gone: ")
        assert tuning.process.wait() == 1 and "Traceback" not in "".join(tuning.seen)
    resumed(history, line, 8)


def test_ctrl_c_keeps_what_is_done(history, model):
    tuning = history.start(f"{history.project.slug} tune --trials 7 --jobs 2")
    tuning.expect("is the best so far")
    family = tuning.children()
    tuning.press_ctrl_c()
    line = tuning.expect("Interrupted: ")
    tuning.process.wait()
    assert_gone(family)
    assert tuning.process.returncode == 1 and "Traceback" not in "".join(tuning.seen)
    resumed(history, line, 7)


def resumed(history, line, count):
    """Assert that a sweep goes on as the line says, and that no trial is done twice."""
    kept = int(re.search(r": (\d+) trials? (is|are) kept", line)[1])
    sweep = line.split()[-1]
    before = states(history, sweep)
    assert 0 < kept == len(before) < count and "RUNNING" not in {status for _, status in before}
    done = history.run(line.partition(f"{history.project.slug} ")[2].strip() + " --jobs 2")
    assert not done.returncode, done.stdout + done.stderr
    assert "FAIL" not in ends_well(history, done.stdout, count)


def test_a_cluster_that_cannot_work_gets_a_sentence(history):
    """After a deadline: nothing waits for ever."""
    nobody = f"tcp://127.0.0.1:{free_port()}"
    done = history.run(f"tune --trials 2 --cluster {nobody}")
    assert done.returncode == 1 and f"There is no Dask scheduler at {nobody}" in done.stderr
    with cluster(history.project, workers=0) as dask:
        done = history.run(f"tune --trials 2 --cluster {dask.address}")
        assert done.returncode == 1 and "has no worker after 30 s: start one" in done.stderr
    assert "Traceback" not in done.stderr
