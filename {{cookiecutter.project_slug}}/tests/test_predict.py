"""Files are read and written by their endings, and an input is never the output."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow.types import ColSpec
from sklearn.linear_model import LinearRegression, LogisticRegression

from {{ cookiecutter.__package }} import config
from {{ cookiecutter.__package }}.lifecycle import (
    files,
    folders,
    predict,
    rows,
)
from {{ cookiecutter.__package }}.lifecycle.executors import Outcome
from {{ cookiecutter.__package }}.lifecycle.loaded import Loaded
from {{ cookiecutter.__package }}.lifecycle.rows import chunks


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "in.csv"
    pd.DataFrame({"a": ["1", "2"]}).to_csv(file, index=False)
    return file


def refused(target, source):
    """Return the sentence that refuses an output."""
    with pytest.raises(config.UserError) as told:
        files.check_output(target, source)
    return str(told.value)


def test_an_output_that_is_the_input_is_refused_however_it_is_named(source, monkeypatch):
    folder = source.parent
    monkeypatch.chdir(folder)
    (folder / "hard.csv").hardlink_to(source)
    (folder / "sub").mkdir()
    targets = [source, Path("in.csv"), folder / "sub" / ".." / "in.csv", folder / "hard.csv"]
    try:
        (folder / "link.csv").symlink_to(source)
        (folder / "there").symlink_to(folder, target_is_directory=True)
        targets += [folder / "link.csv", folder / "there" / "in.csv"]
    except OSError:  # Windows asks for a right to make links
        pass
    if (folder / "IN.CSV").exists():  # the file system takes both for the same
        targets.append(folder / "IN.CSV")
    for target in targets:
        assert refused(target, source).startswith(f"{target} is the input: ")
    files.check_output(folder / "out.csv", source)


def test_an_output_has_to_be_a_file_in_a_folder_outside_the_history(source):
    folder = source.parent
    (folder / "folder.csv").mkdir()
    assert "folder.csv is a folder" in refused(folder / "folder.csv", source)
    assert f"There is no folder {folder.resolve() / 'no'}" in refused(folder / "no/out.csv", source)
    artifacts = config.ROOT / config.setting("MLFLOW_ARTIFACTS_DESTINATION")
    artifacts.mkdir(parents=True, exist_ok=True)
    assert "is inside the history" in refused(artifacts / "out.csv", source)


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.parquet", "a.PARQUET", "a.Parquet"])
def test_endings_are_read_and_written_in_any_case(tmp_path, name):
    file = tmp_path / name
    with files.writing(file) as write:
        write(pd.DataFrame({"a": ["x", "y"]}))
    assert (file.read_bytes()[:4] == b"PAR1") == (name[2] in "pP")
    ((rows, done),) = chunks(file)
    assert rows["a"].tolist() == ["x", "y"] and done == 1


def test_what_a_link_names_is_written(tmp_path):
    (tmp_path / "sub").mkdir()
    link = tmp_path / "newest.csv"
    try:
        link.symlink_to(tmp_path / "sub" / "out.csv")
    except OSError:
        pytest.skip("this system lets nobody make links")
    with files.writing(link) as write:
        write(pd.DataFrame({"a": [1]}))
    assert link.is_symlink() and (tmp_path / "sub" / "out.csv").read_text().split() == ["a", "1"]


class Gaps:
    """A model that says where a note is missing."""

    def predict(self, X):
        return X["note"].isna().to_numpy()


NOTE = [ColSpec("string", "note", required=False), ColSpec("long", "n")]
POINT = [ColSpec("double", "x")]
COUNT = [ColSpec("long", "n")]


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Return a function that predicts with a model of ours, from a file of `tmp_path`."""
    monkeypatch.setattr(predict.ownership, "connect", lambda: None)
    monkeypatch.setattr(rows, "CHUNK", 2)

    def predicted(model, columns, source, target="out.csv"):
        champion = Loaded("3", "", model, rows.Inputs(columns))
        monkeypatch.setattr(predict, "version_of", lambda alias: champion)
        monkeypatch.setattr(predict, "load", lambda version: champion)
        predict.predict(tmp_path / source, tmp_path / target)
        return tmp_path / target

    return predicted


def test_a_file_of_several_chunks_keeps_its_types(ask, tmp_path):
    """The first chunk holds no text at all."""
    (tmp_path / "in.csv").write_text("note,n\n,1\n,2\na,3\nNA,4\n")
    table = pq.read_table(ask(Gaps(), NOTE, "in.csv", "out.parquet"))
    assert table["note"].to_pylist() == [None, None, "a", None]
    assert table["n"].to_pylist() == [1, 2, 3, 4]
    assert table["prediction"].to_pylist() == [True, True, False, True]
    assert table["model_version"].to_pylist() == ["3"] * 4


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("note,n\n,1\n,2\na,x\nb,y\n", "2 values of n are not whole numbers (rows 3, 4: 'x')."),
        ("note,n\n,1\n,2\na,10.5\n", "1 value of n is not a whole number (row 3: '10.5')."),
        ("note,n\n,1\n,\n", "1 value of n is not a whole number (row 2: missing)."),
        ("note,n\na,1,7\nb,2,7\n", "a row has more fields than the header."),
        ("note,n\na,1\nb,2,3\n", "cannot be read: "),
        ("note\na\n", "lacks the column n, which the model needs; it has note."),
        ("note,n,prediction\na,1,1\n", "has a column prediction, as the output will: rename it."),
        ("note;n\na;1,5\n", "separates its columns by semicolons. Save it with commas"),
        ("note\tn\na\t1\n", "separates its columns by tabs."),
        ("note,n\nañejo,1\n".encode("latin-1"), "is not UTF-8. Save it as UTF-8 (in Excel: CSV"),
        ("ñote,n\na,1\n".encode("latin-1"), "is not UTF-8."),
        ("note,n\na,1\n".encode("utf-16"), "is not UTF-8."),
        ("note,n\n", "There are no rows to predict."),
        ("", "cannot be read: No columns to parse"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_whole(ask, tmp_path, content, sentence):
    (tmp_path / "in.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(config.UserError) as told:
        ask(Gaps(), NOTE, "in.csv")
    assert sentence in str(told.value) and "\n" not in str(told.value)
    assert [file.name for file in tmp_path.iterdir()] == ["in.csv"]


def test_a_parquet_file_that_does_not_fit_is_refused(ask, tmp_path):
    n = pa.array([1, 2, None, 4])
    pq.write_table(pa.table({"note": ["a", "b", "c", "d"], "n": n}), tmp_path / "gap.parquet")
    pq.write_table(pa.table([n, n], names=["n", "n"]), tmp_path / "twice.parquet")
    (tmp_path / "no.parquet").write_text("no parquet")
    for name, sentence in (
        ("gap", "1 value of n is not a whole number (row 3: missing)."),
        ("twice", "has several columns n: leave one."),
        ("no", "cannot be read: "),
        ("nothing", "There is no file "),
    ):
        with pytest.raises(config.UserError) as told:
            ask(Gaps(), NOTE, f"{name}.parquet")
        assert sentence in str(told.value)


def test_what_the_model_does_not_know_passes_through_as_it_is(ask, tmp_path):
    """Leading zeros, the letters NA, and whole numbers beside gaps."""
    text = "x,code,visits\n1,007,1\n2,NA,\n3,,3\n"
    (tmp_path / "in.csv").write_text(text)
    model = LinearRegression().fit(pd.DataFrame({"x": [0.0, 1.0]}), [0.0, 1.0])
    found = ask(model, POINT, "in.csv").read_text().splitlines()
    assert all(new.startswith(old) for new, old in zip(found, text.splitlines(), strict=True))
    visits = pd.array([1, None, 3], dtype="Int64")
    pd.DataFrame({"x": [1, 2, 3], "visits": visits}).to_parquet(tmp_path / "in.parquet")
    table = pq.read_table(ask(model, POINT, "in.parquet", "out.parquet"))
    assert table["visits"].to_pylist() == [1, None, 3] and "probability" not in table.column_names


def test_each_class_has_its_probability(ask, tmp_path):
    X = pd.DataFrame({"x": np.arange(60.0)})
    X.head(5).to_csv(tmp_path / "in.csv", index=False)
    model = LogisticRegression().fit(X, ["no", "per haps", "yes"] * 20)
    found = pd.read_csv(ask(model, POINT, "in.csv"))
    each = found[["probability_no", "probability_per haps", "probability_yes"]].to_numpy()
    assert np.allclose(each, model.predict_proba(X.head(5)))
    assert np.allclose(found["probability"], each.max(axis=1))
    assert {*found} == {"x", *rows.added(model.classes_)}

    many = LogisticRegression().fit(X, [f"class {n % 21}" for n in range(60)])
    assert {*pd.read_csv(ask(many, POINT, "in.csv"))} == {"x", *rows.OUTPUT}
    assert rows.added(many.classes_) == rows.added(None) == [*rows.OUTPUT]

    X.head(5).assign(probability_yes=1).to_csv(tmp_path / "taken.csv", index=False)
    with pytest.raises(config.UserError, match="has a column probability_yes, as the output will"):
        ask(model, POINT, "taken.csv")


# A folder


class Even:
    """A model that says which number is even."""

    def predict(self, X):
        return (X["n"] % 2 == 0).to_numpy()


class Here:
    """A slot in this process."""

    def __init__(self, shared):
        self.shared, self.done = shared, []

    def idle(self):
        return 1 - len(self.done)

    def start(self, key, function, *args):
        try:
            self.done.append(Outcome(key, function(self.shared, *args), None))
        except config.UserError as error:
            self.done.append(Outcome(key, None, error))

    def wait(self):
        found, self.done = self.done, []
        return found


def test_a_folder_is_written_file_by_file_and_goes_on(ask, tmp_path, monkeypatch, capsys):
    started = []

    @contextmanager
    def workers(jobs, cluster, shared):
        assert jobs <= 2
        started.append(jobs)
        yield Here(shared)

    monkeypatch.setattr(folders, "workers", workers)
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "2026").mkdir(parents=True)
    for name, rows_of in {"a": 3, "2026/b": 5}.items():
        pd.DataFrame({"n": range(rows_of)}).to_parquet(source / f"{name}.parquet")
    (source / "bad.parquet").write_text("no table")
    with pytest.raises(config.UserError, match="1 of 3 files failed: mend them and type the same"):
        ask(Even(), COUNT, "in", "out")
    told = capsys.readouterr().out
    assert "Failed   bad.parquet" in told and "Wrote    2 files, 8 rows" in told
    found = pd.read_parquet(target / "2026" / "b.parquet")
    assert found["prediction"].notna().all() and found["n"].tolist() == [0, 1, 2, 3, 4]
    assert {file.name for file in target.rglob("*") if file.is_file()} == {"a.parquet", "b.parquet"}

    (source / "bad.parquet").unlink()
    ask(Even(), COUNT, "in", "out")
    assert "Skipped  2 files that version" in capsys.readouterr().out
    assert started == [1]  # for nothing that is left, no process
    pd.DataFrame({"n": range(4)}).to_parquet(source / "a.parquet")  # it has changed since
    ask(Even(), COUNT, "in", "out")
    told = capsys.readouterr().out
    assert "Skipped  1 file " in told and "Wrote    1 file, 4 rows" in told


def test_folders_that_cannot_be_used_get_a_sentence(ask, tmp_path):
    (tmp_path / "in").mkdir()
    for name, sentence in {
        "other": "has no Parquet files",
        "in/out": "lie in each other",
        "nowhere/out": "There is no folder",
        "file.csv": "is a file, and the input is a folder",
    }.items():
        (tmp_path / "file.csv").write_text("n\n1\n")
        with pytest.raises(config.UserError, match=sentence):
            ask(Even(), COUNT, "in", name)
    assert not (tmp_path / "other").exists()


def test_a_worker_that_does_not_see_the_files_says_so(tmp_path):
    with pytest.raises(config.UserError, match="cannot see .*storage that all workers see"):
        folders.predict_file(None, str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet"))
