"""Files are read and written by their endings, and an input is never the output."""

from pathlib import Path

import pandas as pd
import pytest

from {{ cookiecutter.__package }} import config
from {{ cookiecutter.__package }}.lifecycle import predict
from {{ cookiecutter.__package }}.lifecycle.rows import chunks


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "in.csv"
    pd.DataFrame({"a": ["1", "2"]}).to_csv(file, index=False)
    return file


def refused(target, source):
    """Return the sentence that refuses an output."""
    with pytest.raises(config.UserError) as told:
        predict.check_output(target, source)
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
    predict.check_output(folder / "out.csv", source)


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
    with predict.writing(file) as write:
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
    with predict.writing(link) as write:
        write(pd.DataFrame({"a": [1]}))
    assert link.is_symlink() and (tmp_path / "sub" / "out.csv").read_text().split() == ["a", "1"]
