"""Rows as they come: values, files and columns that are odd, in the project's own functions."""

import pytest

pytestmark = pytest.mark.slow


def test_a_row_has_one_hash_whatever_its_columns_order_and_types(uv_project, tmp_path):
    """A retrained model's rows come from a file, those it is judged by from `load`."""
    told = uv_project.python(f"""
import pandas as pd
from my_ml_project.lifecycle.rows import row_hashes
frame = pd.DataFrame(dict(a=[1, 2], b=["x", "y"], c=[0.1, 2.5], d=[True, False]))
kept = {str(tmp_path / "kept.parquet")!r}
frame[["d", "c", "b", "a"]].astype(dict(a="float64", b="string")).to_parquet(kept)
again = pd.read_parquet(kept, dtype_backend="pyarrow")
print(row_hashes(frame) == row_hashes(again), len(set(row_hashes(frame))))
print(row_hashes(frame) == row_hashes(frame.assign(c=[0.1, 2.6])))""").splitlines()
    assert told == ["True 2", "False"]


def test_a_value_is_taken_exactly_or_refused(uv_project):
    told = uv_project.python("""
import numpy as np, pandas as pd
from mlflow.types import ColSpec, Schema
from my_ml_project.config import UserError
from my_ml_project.lifecycle.rows import fitting
def told(kind, value, required=True):
    rows, inputs = pd.DataFrame({"x": [value]}), Schema([ColSpec(kind, "x", required=required)])
    try:
        print(repr(fitting(rows, inputs, "It")["x"].tolist()[0]))
    except UserError as error:
        print(error)
told("long", "9007199254740993")
told("long", "9223372036854775808")
told("long", "1.5")
told("integer", 2147483648)
told("double", "1e3")
told("boolean", "TRUE")
told("boolean", "perhaps")
told("datetime", "2026-01-01T00:00:00+02:00")
told("datetime", "2300-01-01")
told("datetime", np.datetime64("2300-01-01", "s"))
told("string", "")
told("string", "", required=False)""").splitlines()
    assert told == [
        "9007199254740993",
        "It: x is no whole number in 1 rows, as in row 1 ('9223372036854775808').",
        "It: x is no whole number in 1 rows, as in row 1 ('1.5').",
        "It: x is no whole number in 1 rows, as in row 1 (2147483648).",
        "1000.0",
        "True",
        "It: x is neither true nor false in 1 rows, as in row 1 ('perhaps').",
        "Timestamp('2025-12-31 22:00:00')",
        "It: x is no date of 1678 to 2261 in 1 rows, as in row 1 ('2300-01-01').",
        "It: x is no date of 1678 to 2261 in 1 rows, as in row 1 "
        "(Timestamp('2300-01-01 00:00:00')).",
        "''",
        "nan",
    ]


def test_a_file_of_several_chunks_keeps_its_types_and_its_row_numbers(uv_project, tmp_path):
    """Here a chunk has two rows; the first holds no text at all."""
    (tmp_path / "in.csv").write_text("note,n\n,1\n,2\na,3\nb,4\n")
    (tmp_path / "wrong.csv").write_text("note,n\n,1\n,2\na,x\nb,4\n")
    (tmp_path / "more.csv").write_text("note,n\na,1,7\nb,2,7\n")
    told = uv_project.python(f"""
import pathlib
from types import SimpleNamespace as Named
import mlflow, pyarrow as pa, pyarrow.parquet as pq
from mlflow.types import ColSpec, Schema
from my_ml_project.lifecycle import predict, rows
inputs = Schema([ColSpec("string", "note", required=False), ColSpec("long", "n")])
rows.ROWS = 2
predict.ownership.connect = lambda: None
predict.version_of = lambda alias: Named(version="1")
mlflow.sklearn.load_model = lambda place: Named(predict=lambda X: X["note"].isna().to_numpy())
mlflow.models.get_model_info = lambda place: Named(signature=Named(inputs=inputs))
folder = pathlib.Path({str(tmp_path)!r})
predict.predict(folder / "in.csv", folder / "out.parquet")
print(pq.read_table(folder / "out.parquet").select(["note", "prediction"]).to_pylist()[1:3])
n = pa.array([1, 2, None, 4])
pq.write_table(pa.table({{"note": ["a", "b", "c", "d"], "n": n}}), folder / "gap.parquet")
pq.write_table(pa.table([n, n], names=["n", "n"]), folder / "twice.parquet")
for name in ("wrong.csv", "more.csv", "gap.parquet", "twice.parquet"):
    try:
        predict.predict(folder / name, folder / "out.csv")
    except predict.UserError as error:
        print(error)
print((folder / "out.csv").exists())""").splitlines()
    told = [line for line in told if "Predicting" not in line and not line.startswith("Wrote")]
    assert told == [
        "[{'note': None, 'prediction': True}, {'note': 'a', 'prediction': False}]",
        f"{tmp_path}/wrong.csv: n is no whole number in 1 rows, as in row 3 ('x').",
        f"{tmp_path}/more.csv cannot be read: its rows have more fields than its header has names",
        f"{tmp_path}/gap.parquet: n is no whole number in 1 rows, as in row 3 (<NA>).",
        f"{tmp_path}/twice.parquet cannot be read: it has several columns n",
        "False",
    ]


def test_the_gate_says_what_an_odd_metric_means(uv_project):
    """Equal models are refused however large the metric; one that is undefined is no verdict."""
    told = uv_project.python("""
import math
from mlflow.models import EvaluationResult
from my_ml_project.lifecycle import promote
promote.PRIMARY, promote.THRESHOLDS = ("mse", "minimize"), {"r2": (">=", 0.5)}
def told(challenger, champion):
    both = {"challenger": challenger, "champion": champion}
    results = {alias: EvaluationResult(metrics, {}) for alias, metrics in both.items()}
    try:
        print(promote.missed(results))
    except promote.UserError as error:
        print(error)
told({"mse": 2.5e9, "r2": 0.9}, {"mse": 2.5e9, "r2": 0.9})
told({"mse": 2.4e9, "r2": 0.9}, {"mse": 2.5e9, "r2": 0.9})
told({"mse": 1e-3, "r2": 0.4}, {"mse": 2e-3, "r2": 0.9})
told({"mse": math.nan, "r2": 0.9}, {"mse": 2.5e9, "r2": 0.9})
told({"rmse": 5.0, "r2": 0.9}, {"mse": 2.5e9, "r2": 0.9})""").splitlines()
    no = "The challenger has no mse: does measure() in model.py return it?"
    assert told == ["{'mse': 'is no better'}", "{}", "{'r2': 'misses its threshold'}", no, no]


def test_another_lock_is_told_at_once_and_an_undefined_metric_is_the_same_again(uv_project):
    told = uv_project.python("""
from types import SimpleNamespace as Named
from my_ml_project.lifecycle import reproduce
old, new = ("\\n".join(f"package-{n}=={v}.{n}" for n in range(5000)) for v in (1, 2))
reproduce.artifacts.list_artifacts = lambda **kwargs: [Named(path="origin/uv.lock")]
reproduce.recorded = lambda run_id, name: old
reproduce.origin = lambda: {"uv.lock": new}
then = Named(info=Named(run_id="1"), data=Named(tags=reproduce.run_tags()))
print(reproduce.differences(then))
nan = float("nan")
reproduce.compare({"a": nan, "b": 1.0}, {"a": nan, "b": 1.0 + 1e-9})
try:
    reproduce.compare({"a": nan, "b": 1.0}, {"b": 1.0})
except reproduce.UserError as error:
    print(error)""").splitlines()
    assert told[0] == "['uv.lock: 10000 lines ... (- then, + now)']"
    assert "Reproduced, within 1e-06" in told
    assert told[-1] == "Not reproduced: a differ by more than 1e-06."


def test_a_version_that_does_not_load_is_not_tried_at_each_look(uv_project):
    told = uv_project.python("""
from types import SimpleNamespace as Named
from my_ml_project.lifecycle import serve
looks, loads = [], []
def version_of(alias):
    looks.append(alias)
    if len(looks) == 50:
        raise SystemExit
    return Named(version="2" if len(looks) < 40 else "3")
def load(version):
    loads.append(version)
    if version == "2":
        raise OSError("no such file")
    return Named(version=version)
serve.LOOK_SECONDS, serve.version_of, serve.load = 0, version_of, load
champion = serve.Champion.__new__(serve.Champion)
champion.now, champion.troubles = Named(version="1"), {}
try:
    champion.follow()
except SystemExit:
    print(loads, champion.now.version, champion.troubles)""").splitlines()
    assert told == [
        "Trouble  version 1 stays: no such file",
        "Serving  version 3",
        "['2', '3'] 3 {'alias': ''}",
    ]
