"""Promotion and rollback on a small real registry: a database, models of one coefficient."""

import contextlib
import getpass
import json
import os
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from mlflow.data.pandas_dataset import from_pandas
from sklearn.linear_model import LinearRegression

from {{ cookiecutter.__package }} import config, data, model
from {{ cookiecutter.__package }}.lifecycle import (
    batches,
    candidate,
    gate,
    promote,
    record,
    registry,
    verdict,
)
from {{ cookiecutter.__package }}.lifecycle.rows import row_hashes

GENERATOR = np.random.default_rng(0)
FRAME = pd.DataFrame(GENERATOR.normal(size=(200, 2)), columns=["a", "b"])
FRAME["y"] = FRAME.a + FRAME.b + GENERATOR.normal(size=200) / 2


def split(frame):
    return frame.iloc[:150], frame.iloc[150:]


def measure(model, X, y):
    error = model.predict(X) - y
    return {"mse": float((error**2).mean()), "mae": float(error.abs().mean())}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Track into a database of this module's own, without a server."""
    folder = tmp_path_factory.mktemp("store")
    kept = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').as_posix()}")
    client = mlflow.MlflowClient()
    for name in (config.EXPERIMENT, config.GATE_EXPERIMENT):
        client.create_experiment(name, (folder / name).as_uri())
    yield folder
    mlflow.set_tracking_uri(kept)


class Registry:
    """The registered model, and how versions of it are made."""

    def __init__(self, folder):
        self.client, self.folder = mlflow.MlflowClient(), folder
        self.records, self.hashes, self.saved, self.frame = {}, {}, {}, FRAME
        self.batches = []

    def train(self, bias=0.0, frame=FRAME, rows=None, alias="challenger", number=None, **changes):
        """Make a version that is wrong by `bias`, as `train` makes one; return its number."""
        training, held_out = rows or split(frame)
        columns = [name for name in frame if name != "y"]
        X = training[columns].assign(**{name: 0.0 for name in columns if name not in "ab"})
        fitted = LinearRegression().fit(X, training.y)
        fitted.intercept_ += bias
        digest = str(row_hashes(held_out, [*held_out]).sum())[:30]
        mlflow.set_experiment(experiment_id=self.experiment(config.EXPERIMENT))
        with mlflow.start_run(tags={"step": "train"}) as run:
            mlflow.log_input(from_pandas(held_out, digest=digest), "held_out")
        wanted = sorted([*columns, "y"])
        self.hashes[run.info.run_id] = {
            "training": row_hashes(training, wanted),
            "held_out": row_hashes(held_out, wanted),
        }
        self.records[run.info.run_id] = SimpleNamespace(**{
            "run_id": run.info.run_id, "params": {"bias": bias, "gap": float("nan")}, "seed": 0,
            "target": "y", "columns": columns, "code": "c", "digest": {"held_out": digest},
        } | changes)  # fmt: skip
        signature = mlflow.models.infer_signature(training[columns], np.array([1.0]))
        return self.register(run.info.run_id, fitted, signature, alias)

    def register(self, run_id, fitted, signature, alias="challenger"):
        key = (str(signature), *fitted.coef_, fitted.intercept_)
        if key not in self.saved:
            place = self.saved[key] = self.folder / f"model-{run_id}"
            mlflow.sklearn.save_model(fitted, place, signature=signature, pip_requirements=[])
        with contextlib.suppress(mlflow.MlflowException):
            self.client.create_registered_model(config.MODEL)
        made = self.client.create_model_version(config.MODEL, self.saved[key].as_uri(), run_id)
        self.point(made.version, alias)
        return str(made.version)

    def crown(self, *biases):
        """Make versions that were champions, one after another; return their numbers."""
        numbers = [self.train(bias) for bias in biases]
        for number in numbers:
            registry.crown(self.version(number), {})
        return numbers

    def point(self, number, alias="champion"):
        self.client.set_registered_model_alias(config.MODEL, alias, number)

    def version(self, number):
        return self.client.get_model_version(config.MODEL, number)

    def experiment(self, name):
        return self.client.get_experiment_by_name(name).experiment_id

    def champion(self):
        found = registry.version_of("champion")
        return found and str(found.version)

    def gates(self):
        return self.client.search_runs([self.experiment(config.GATE_EXPERIMENT)])


@pytest.fixture
def models(store, monkeypatch, tmp_path):
    """Return an empty registry, for a task of this module's own."""
    found = Registry(tmp_path)
    with contextlib.suppress(mlflow.MlflowException):
        found.client.delete_registered_model(config.MODEL)
    for run in found.gates():
        found.client.delete_run(run.info.run_id)
    monkeypatch.setattr(promote.ownership, "connect", lambda: "http://here")
    monkeypatch.setattr(record, "read", lambda run_id: read(found, run_id))
    monkeypatch.setattr(record, "row_hashes_of", lambda run_id: found.hashes[run_id])
    own = {
        "TARGET": "y", "PRIMARY": ("mse", "minimize"), "THRESHOLDS": {}, "MARGIN": 0,
        "load": lambda: found.frame, "split": split, "measure": measure, "plots": lambda *_: {},
    }  # fmt: skip
    monkeypatch.setattr(gate, "RESAMPLES", 20)  # for speed
    monkeypatch.setattr(promote.contract, "check_names", list)
    monkeypatch.setattr(batches, "stored", lambda: found.batches)
    monkeypatch.setattr(data, "TARGET", "y")
    monkeypatch.setattr(model, "TASK", "regressor")
    for module in (verdict, candidate):
        for name in own.keys() & vars(module).keys():
            monkeypatch.setattr(module, name, own[name])
    yield found
    while mlflow.active_run():
        mlflow.end_run()


def read(models, run_id):
    if run_id not in models.records:
        raise config.UserError(f"Run {run_id} has no record: train one with this project's train.")
    return models.records[run_id]


def refused(*args, **kwargs):
    """Return the sentence that refuses a promotion; prove that the champion stays."""
    before = registry.version_of("champion")
    with pytest.raises(config.UserError) as told:
        promote.promote(*args, **kwargs)
    after = registry.version_of("champion")
    assert (after and after.version) == (before and before.version)
    return str(told.value)


def test_the_first_one_is_promoted_without_thresholds(models, capsys):
    assert refused() == "There is no challenger yet: train one first."
    number = models.train(5.0)
    promote.promote()
    assert models.champion() == number
    (run,) = models.gates()
    assert run.data.tags["verdict"] == "promoted" and run.info.status == "FINISHED"
    assert run.data.tags["challenger"] == number and "champion" not in run.data.tags
    tags = models.version(number).tags
    assert tags["promoted_from"] == "none" and tags["promoted_in_run"] == run.info.run_id
    assert json.loads(tags["metrics_of_challenger"])["mse"] == pytest.approx(25, rel=0.2)
    assert "is the champion already" in refused()
    told = capsys.readouterr().out
    assert "Judging  version 1 ..." in told and "Gain" not in told


def test_a_better_one_is_promoted_and_an_equal_one_is_not(models, monkeypatch, capsys):
    first = models.train(1.0)
    promote.promote()
    models.train(1.0, params={})
    assert refused() == "The challenger is refused, the champion stays: mse is no better."
    again = models.version(models.train(3.0)).run_id
    models.client.set_tag(again, "reproduces", "x")  # not a try
    second = models.train(0.0)
    monkeypatch.setattr(verdict, "plots", lambda model, X, y: {"error": Figure()})
    promote.promote()
    assert models.champion() == second
    run = models.gates()[0]
    assert run.data.tags["champion"] == first
    metrics = run.data.metrics
    gain = metrics["champion/mse"] - metrics["challenger/mse"]
    assert metrics["gain"] == pytest.approx(gain) and gain > 0
    assert 0 < metrics["gain_half_width"] < gain and metrics["rows"] == 50
    assert metrics["tries"] == 2  # since the first one's promotion
    told = capsys.readouterr().out
    assert f"Gain     mse {gain:+.4f} (90 % interval: +" in told
    assert f"Judging  version {second} beside version {first}, the champion ..." in told
    assert "Tries    best of 2: part of this gain may be luck" in told
    folders = {one.path for one in models.client.list_artifacts(run.info.run_id, "plots")}
    assert folders == {"plots/challenger", "plots/champion"}
    third = models.train(-0.1)
    monkeypatch.setattr(verdict, "MARGIN", 100)
    assert "mse is not better by more than 100." in refused(number=int(third))


def test_the_sentence_names_the_threshold_that_is_missed(models, monkeypatch):
    for module in (verdict, candidate):
        monkeypatch.setattr(module, "THRESHOLDS", {"mae": ("<=", 1.0)})
    models.train(3.0)
    assert refused() == "The challenger is refused: mae misses its threshold."
    monkeypatch.setattr(candidate, "THRESHOLDS", {"rmse": ("<=", 1.0)})
    assert "has no rmse on these rows: measure() does not return it." in refused()
    monkeypatch.undo()
    monkeypatch.setattr(promote.ownership, "connect", lambda: "http://here")
    monkeypatch.setattr(promote.contract, "THRESHOLDS", {"mae": ("<", 1.0)})
    assert 'write the sign as ">=" or "<="' in refused()


def test_a_column_that_was_added_does_not_count(models):
    models.train(1.0)
    promote.promote()
    models.frame = FRAME.assign(c=GENERATOR.normal(size=200))
    second = models.train(0.0, models.frame)
    promote.promote()
    assert models.champion() == second
    models.frame = FRAME  # and back: what the champion was trained with is no longer there
    third = models.train(0.0, params={})
    told = refused()
    assert f"The champion, version {second}, needs columns that your data lacks" in told
    assert told.endswith("not comparable: c. To judge the challenger by its thresholds alone: "
                         "`promote --unopposed`.")  # fmt: skip
    promote.promote(unopposed=True)
    assert models.champion() == third


def test_rows_that_changed_cannot_be_told_from_new_ones(models, capsys):
    first = models.train(1.0)
    promote.promote()
    models.frame = FRAME.assign(a=FRAME.a * 1.01)
    second = models.train(0.0, models.frame)
    told = refused()
    assert f"that the champion, version {first}, was trained and tested on" in told
    assert "Either rows were replaced " in told and "or values in them have changed" in told
    promote.promote(unopposed=True)
    assert "Unopposed: Fewer than half" in capsys.readouterr().out
    assert models.champion() == second
    models.frame = FRAME.assign(b=0.0)
    models.point(first, "challenger")
    assert "Train a new challenger." in refused(unopposed=True)


def test_rows_that_one_was_trained_on_do_not_count(models, capsys):
    first = models.train(1.0, rows=(FRAME.iloc[:170], FRAME.iloc[170:]))
    assert "20 of the 50 held-out rows (load) were among the training rows" in refused()
    models.point(first)
    models.train(0.0)
    promote.promote()
    assert "Judging  on 30 of 50 held-out rows" in capsys.readouterr().out
    assert models.gates()[0].data.metrics["rows"] == 30
    models.point(models.train(1.0, rows=(FRAME.iloc[:181], FRAME.iloc[181:])))
    models.train(0.0, params={})
    told = refused()
    assert "was trained on 31 of the 50 held-out rows (load), which leaves too few rows" in told
    models.point(models.train(1.0, rows=(FRAME.iloc[:180], FRAME.iloc[180:])))
    models.train(0.0, params={"other": 1})
    promote.promote()  # 20 are enough


def test_a_champion_of_another_target_or_metric_is_not_compared(models, monkeypatch):
    first = models.train(1.0)
    promote.promote()
    models.train(0.0)
    models.records[models.version(first).run_id].target = "z"
    assert "predicts z, but TARGET in data.py is y" in refused()
    models.records[models.version(first).run_id].target = "y"
    calls = []

    def fails_for_the_champion(model, X, y):
        calls.append(model)
        if len(calls) == 1:
            raise ValueError("Found unknown categories")
        return measure(model, X, y)

    monkeypatch.setattr(candidate, "measure", fails_for_the_champion)
    told = refused()
    assert "fails for the champion, version 1: ValueError: Found unknown" in told
    monkeypatch.setattr(candidate, "measure", lambda *_: {"mse": float("nan")})
    assert "The champion, version 1, has no mse on these rows: it is nan." in refused()


def test_plots_that_fail_decide_nothing(models, monkeypatch, capsys):
    number = models.train()
    monkeypatch.setattr(verdict, "plots", lambda model, X, y: {}[0])
    promote.promote()
    assert models.champion() == number
    assert "No plots of the challenger, version 1: KeyError: 0" in capsys.readouterr().out


def test_what_load_logs_is_in_the_gate_s_run(models, monkeypatch):
    def load():
        mlflow.log_param("source", "a database")
        return FRAME

    monkeypatch.setattr(candidate, "load", load)
    models.train()
    promote.promote()
    (run,) = models.gates()
    assert run.data.params == {"source": "a database"} and run.data.tags["verdict"] == "promoted"
    assert "is no better" in refused(number=int(models.train()))
    models.frame = FRAME.drop(columns="a")
    monkeypatch.setattr(candidate, "load", lambda: [mlflow.log_param("p", 1), models.frame][1])
    assert "needs columns" in refused(unopposed=True)
    assert [run.info.status for run in models.gates()] == ["FAILED", "FINISHED", "FINISHED"]


def test_plots_of_the_same_rows_and_code_are_copied(models, monkeypatch):
    drawings = []

    def plots(model, X, y):
        drawings.append(len(X))
        return {"drawn": Figure()}

    monkeypatch.setattr(verdict, "plots", plots)
    monkeypatch.setattr(verdict, "code_hash", lambda: "c")

    def names():
        run_id = models.gates()[0].info.run_id
        folders = models.client.list_artifacts(run_id, "plots")
        return {f.path for one in folders for f in models.client.list_artifacts(run_id, one.path)}

    first = models.train(2.0)
    models.client.log_text(models.version(first).run_id, "", "plots/kept.png")
    promote.promote()
    assert names() == {"plots/challenger/kept.png"} and not drawings
    models.train(1.0)  # whose run has none
    promote.promote()
    assert names() == {"plots/challenger/drawn.png", "plots/champion/kept.png"}
    third = models.train(0.0, code="d")
    models.client.log_text(models.version(third).run_id, "", "plots/old.png")
    promote.promote()
    assert "plots/challenger/drawn.png" in names()
    fourth = models.train(0.0, rows=(FRAME.iloc[:140], FRAME.iloc[140:]))
    models.client.log_text(models.version(fourth).run_id, "", "plots/other.png")
    refused()
    assert "plots/challenger/drawn.png" in names() and set(drawings) == {50}


# Two held-out parts


def shifted(count, seed=1):
    """Return labelled rows of another population, where `y` is 3 smaller."""
    rows = np.random.default_rng(seed).normal(size=(count, 2))
    return pd.DataFrame(rows, columns=["a", "b"]).assign(y=rows.sum(axis=1) - 3)


def batch(training, held_out):
    return batches.Batch("report", {"training": training, "held_out": held_out})


def test_the_labelled_part_decides_and_the_other_must_not_be_worse(models, capsys):
    first = models.train(0.0)
    promote.promote()
    models.batches = [batch(shifted(150), shifted(60, seed=2))]
    second = models.train(-0.5)  # worse on `load`, better on the labelled rows
    assert refused().endswith(": mse is worse on the load rows.")
    told = capsys.readouterr().out
    assert "Part     load: 50 held-out rows\n" in told
    assert "Part     labelled: 60 held-out rows, which decide" in told
    metrics = models.gates()[0].data.metrics
    assert metrics["gain"] < 0 < metrics["labelled/gain"]
    assert (metrics["rows"], metrics["labelled/rows"]) == (50, 60)
    assert metrics["labelled/champion/mse"] == pytest.approx(9, rel=0.1)
    models.train(0.1)
    assert "mse is no better on the labelled rows" in refused()
    third = models.train(-0.05)  # not surely worse on `load`
    promote.promote()
    assert models.champion() == third and first and second


def test_thresholds_hold_on_each_part_of_fifty_rows(models, monkeypatch):
    for module in (verdict, candidate):
        monkeypatch.setattr(module, "THRESHOLDS", {"mae": ("<=", 2.0)})
    models.batches = [batch(shifted(150), shifted(50, seed=2))]
    models.train(0.0)
    told = "The challenger is refused: mae misses its threshold on the labelled rows."
    assert refused() == told
    models.train(-3.0)
    assert refused() == told.replace("labelled", "load")
    models.batches = [batch(shifted(150), shifted(49, seed=2))]
    models.train(0.0, params={})
    promote.promote()
    assert models.gates()[0].data.metrics["labelled/challenger/mae"] > 2


def test_too_few_labelled_rows_decide_nothing(models, capsys):
    models.batches = [batch(shifted(150), shifted(19, seed=2))]
    number = models.train(0.0)
    promote.promote()
    assert models.champion() == number
    assert "19 held-out rows: too few to judge on (20 are needed)" in capsys.readouterr().out


def test_labelled_rows_that_one_was_trained_on_do_not_count(models):
    training, held_out = shifted(150), shifted(60, seed=2)
    both = (pd.concat([FRAME[:150], training, held_out[:30]]), FRAME[150:])
    models.batches = [batch(training, held_out)]
    models.train(0.0, rows=both)
    told = refused()
    assert "30 of the 60 held-out rows (labelled) were among the training rows" in told
    models.batches = []  # the report was deleted
    assert "a report with labelled rows deleted" not in told
    models.train(1.0, rows=(pd.concat([FRAME[:150], shifted(300)]), FRAME[150:]), alias="champion")
    models.train(0.0, params={})
    assert "a report with labelled rows deleted" in refused()


# What was rolled back


def test_what_was_rolled_back_is_promoted_by_its_number_alone(models):
    first = models.train(1.0)
    promote.promote()
    second = models.train(0.0)
    promote.promote()
    promote.rollback()
    assert models.champion() == first
    told = refused()
    assert f"The challenger, version {second}, was rolled back by " in told
    assert told.endswith(f"`promote {second}`.")
    again = models.train(0.0)  # the same parameters, seed, code and data
    told = refused()
    assert f"version {again}, is the same model as version {second}, which was rolled" in told
    promote.promote(number=int(second))
    assert models.champion() == second
    assert registry.ROLLED_BACK not in models.version(second).tags
    assert "mse is no better" in refused()  # it is no longer a version that was rolled back
    for changes in ({"seed": 1}, {"code": "d"}, {"digest": {"held_out": "e"}}, {"params": {}}):
        other = models.train(0.0, **changes)
        old, new = (models.version(one) for one in (second, other))
        assert not promote.same_training(old, models.records[new.run_id])
    assert promote.same_training(old, models.records[models.version(again).run_id])


def test_a_version_is_promoted_by_number_through_the_same_gate(models):
    good, bad = models.train(0.0), models.train(1.0)
    promote.promote(number=int(good))
    assert models.champion() == good
    assert "The challenger is refused" in refused(number=int(bad))
    assert "There is no version 77 of " in refused(number=77)
    models.client.delete_model_version(config.MODEL, bad)
    assert f"There is no version {bad} of " in refused(number=int(bad))


# Facts before writes


def test_a_user_without_a_name_promotes(models, monkeypatch):
    def unknown():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", unknown)
    for bias in (1.0, 0.0):
        number = models.train(bias)
        promote.promote()
        assert models.champion() == number
    by = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    assert models.version(number).tags["promoted_by"] == by
    promote.rollback()
    assert models.version(number).tags[registry.ROLLED_BACK].startswith(f"{by}, ")


def test_the_alias_decides_when_a_promotion_is_interrupted(models, monkeypatch):
    first, second = models.crown(2.0, 1.0)
    third = models.train(0.0)
    with monkeypatch.context() as broken:
        broken.setattr(mlflow.MlflowClient, "set_registered_model_alias", interrupted)
        with pytest.raises(KeyboardInterrupt):
            promote.promote()
    assert models.champion() == second
    fourth = models.train(0.5)
    promote.promote()
    assert models.champion() == fourth
    promote.rollback()
    assert models.champion() == second  # the third one has never been the champion
    promote.rollback()
    assert models.champion() == first
    with pytest.raises(config.UserError, match=f"no champion before version {first}: it stays"):
        promote.rollback()
    assert models.champion() == first and third


def interrupted(*_):
    raise KeyboardInterrupt


def test_another_champion_in_the_meantime_is_not_replaced(models, monkeypatch):
    first = models.train(2.0)
    promote.promote()
    second, third = models.train(1.0), models.train(0.0)

    def meanwhile(model, X, y):
        models.point(second)
        return {}

    monkeypatch.setattr(verdict, "plots", meanwhile)
    with pytest.raises(config.UserError, match="Another version became the champion meanwhile"):
        promote.promote(number=int(third))
    assert models.champion() == second and first


# The registry as people leave it


def line():
    return [str(one.version) for one in registry.champions()]


def test_rollback_lands_on_the_next_living_champion(models):
    numbers = models.crown(4.0, 3.0, 2.0, 1.0)
    assert line() == numbers
    models.client.delete_model_version(config.MODEL, numbers[2])
    assert line() == [numbers[0], numbers[1], numbers[3]]
    promote.rollback()
    assert models.champion() == numbers[1]


@pytest.mark.parametrize("text", ["{", "7", '[["99", "x"]]', None])
def test_an_unreadable_tag_costs_nothing(models, text):
    numbers = models.crown(4.0, 3.0, 2.0)
    names = (registry.BEFORE, registry.PROMOTED_AT)
    for name in names:
        if text is None:
            models.client.delete_model_version_tag(config.MODEL, numbers[2], name)
        else:
            models.client.set_model_version_tag(config.MODEL, numbers[2], name, text)
    promote.rollback()
    assert models.champion() == numbers[1]


def test_a_champion_that_was_made_by_hand_or_deleted_has_those_before_it(models, capsys):
    *numbers, taken_back = models.crown(4.0, 3.0, 1.0)
    promote.rollback()
    assert models.champion() == numbers[1] != taken_back
    by_hand = models.train(2.0, alias="champion")
    assert line() == [*numbers, by_hand]
    models.client.delete_model_version(config.MODEL, by_hand)
    assert models.champion() is None
    promote.rollback()
    assert models.champion() == numbers[1]
    assert "(the version after it was deleted)" in capsys.readouterr().out


def test_a_model_that_was_made_again_has_no_champions_of_the_old_one(models):
    models.crown(2.0, 1.0)
    models.client.delete_registered_model(config.MODEL)
    first, second = models.crown(3.0, 1.0)
    assert first == "1" and line() == [first, second]
    tag = json.loads(models.version(second).tags[registry.BEFORE])
    assert [str(part) for part in tag[0]] == ["1", models.version("1").run_id]
    # A tag that has the number of another run's version names no living one.
    foreign = json.dumps([["1", "0" * 32]])
    models.client.set_model_version_tag(config.MODEL, second, registry.BEFORE, foreign)
    models.client.delete_model_version_tag(config.MODEL, "1", registry.PROMOTED_AT)
    assert line() == [second]


def test_versions_that_train_did_not_make_get_a_sentence(models):
    fitted = LinearRegression().fit(FRAME[["a", "b"]], FRAME.y)
    with mlflow.start_run(experiment_id=models.experiment(config.EXPERIMENT)) as run:
        pass
    models.register(run.info.run_id, fitted, None)
    assert "has no record: train one with this project's train." in refused()
    good = models.train(0.0)
    for known in (models.records, models.hashes):
        known[run.info.run_id] = known[models.version(good).run_id]
    models.point("1", "challenger")
    assert "The challenger, version 1, has no signature, so nobody knows" in refused()
    made = models.client.create_model_version(config.MODEL, models.version(good).source)
    models.point(made.version, "challenger")
    assert f"Version {made.version} has no run: train one" in refused()
    models.point("1")
    models.point(good, "challenger")
    told = refused()
    assert "The champion, version 1, has no signature" in told and "--unopposed" in told
    promote.promote(unopposed=True)
    assert models.champion() == good


def test_deleted_runs_and_experiments_are_named_with_what_restores_them(models):
    number = models.train()
    run_id = models.version(number).run_id
    models.client.delete_run(run_id)
    told = refused()
    assert f"run {run_id}, which is deleted. Restore it with `" in told
    assert told.endswith(f"runs restore --run-id {run_id}`.")
    models.client.restore_run(run_id)
    gates = models.experiment(config.GATE_EXPERIMENT)
    models.client.delete_experiment(gates)
    try:
        assert refused().endswith(f"experiments restore --experiment-id {gates}`.")
    finally:
        models.client.restore_experiment(gates)
    models.client.rename_experiment(models.experiment(config.EXPERIMENT), "tumours 2026")
    try:
        promote.promote()
    finally:
        found = models.client.get_experiment_by_name("tumours 2026").experiment_id
        models.client.rename_experiment(found, config.EXPERIMENT)
    assert models.champion() == number


def test_a_run_that_no_longer_exists_is_named():
    with pytest.raises(config.UserError, match="has no run"):
        registry.training_run(SimpleNamespace(version="1", run_id=""))


def test_a_run_that_was_collected_is_named(models):
    with pytest.raises(config.UserError, match="which no longer exists: train again"):
        registry.training_run(SimpleNamespace(version="1", run_id="0" * 32))
