"""Inputs that people of this job have, each with the answer that it has to get.

Each input is a `data.py` or a `model.py`, or what somebody did in between. The tests' names say
which it is; those of one kind stand together, and the last of a kind was invented for it here.
"""

import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import HANG_SECONDS, ROOT
from test_history import History

pytestmark = pytest.mark.slow

MODEL = """
import numpy as np
import pandas as pd
from sklearn import metrics
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

TASK = "classifier"
PARAMS = {"n_estimators": 5}
PRIMARY = ("roc_auc", "maximize")
THRESHOLDS = {"roc_auc": (">=", 0.7)}
TRUSTED_TYPES = [
    "numpy.dtype",
    "sklearn.tree._tree.Tree",
    "sklearn.compose._column_transformer._RemainderColsList",
]


def build(**params):
    return make_pipeline(SimpleImputer(), RandomForestClassifier(**params))


def measure(model, X, y):
    return {"roc_auc": metrics.roc_auc_score(y, model.predict_proba(X)[:, 1])}
"""
TEXTS = """
def build(**params):
    text = make_pipeline(
        SimpleImputer(strategy="constant", missing_values={missing}, fill_value="none"),
        OneHotEncoder(handle_unknown="ignore"),
    )
    columns = make_column_transformer((text, {columns}), remainder=SimpleImputer())
    return make_pipeline(columns, LinearRegression() if TASK == "regressor" else
                         RandomForestClassifier(**params))
"""
PRICES = """
TASK, PARAMS, PRIMARY, THRESHOLDS = "regressor", {}, ("rmse", "minimize"), {}


def measure(model, X, y):
    return {"rmse": metrics.root_mean_squared_error(y, model.predict(X))}
"""
DATA = """
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

TARGET = "late"
FILE = Path(__file__).with_name("rows.csv")


def load():
    random = np.random.default_rng(0)
    days, noise = random.integers(0, 60, 300), random.normal(0, 5, 300)
    frame = pd.DataFrame({"days": days, "weight": random.normal(size=300)})
    frame["late"] = (days + noise > 30).astype(int)
    return changed(frame, random)


def changed(frame, random):
    return frame


def split(frame):
    return train_test_split(frame, test_size=0.3, random_state=0)
"""
WRITE = """
import importlib
data = importlib.import_module(package + ".data")
frame = data.load()
frame.to_csv("rows.csv", index=False)
frame.to_parquet("rows.parquet")
"""
COMPARE = """
import importlib
import pandas as pd
data, config = (importlib.import_module(f"{package}.{name}") for name in ("data", "config"))
frame = data.load()
right = mlflow.sklearn.load_model(f"models:/{config.MODEL}@champion").predict(
    frame.drop(columns=data.TARGET))
for name in ("out.csv", "out.parquet"):
    found = pd.read_csv(name) if name == "out.csv" else pd.read_parquet(name)
    print(name, abs(found["prediction"].to_numpy("float64") - right).max())
"""


class Cases:
    """The process that runs the cases."""

    def __init__(self, history, folder):
        project = history.project
        runner = ROOT / "tests" / "case_runner.py"
        self.process = subprocess.Popen(
            [project.path / ".venv" / "bin" / "python", runner, project.path, folder],
            env=project.environ | history.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.names = set()

    def __call__(self, name, *steps, data="", model="", **files):
        """Run the steps of a case; return exit code and output of each.

        `data` and `model` follow on the files above, and what they define there is replaced.
        """
        assert name not in self.names
        self.names.add(name)
        files = {"data.py": DATA + data, "model.py": MODEL + model} | files
        words = [one if isinstance(one, list) else one.split() for one in steps]
        case = {"name": name, "files": files, "steps": words}
        print(json.dumps(case), file=self.process.stdin, flush=True)
        done = json.loads(self.process.stdout.readline())
        print("\n".join(told for _, told in done))
        assert not any("Traceback" in told for _, told in done)
        return done

    def end(self):
        self.process.stdin.close()
        self.process.wait(HANG_SECONDS)


@pytest.fixture(scope="module")
def history(uv_project, tmp_path_factory):
    history = History(uv_project, tmp_path_factory.mktemp("cases") / "history")
    with history.serving():
        yield history


@pytest.fixture(scope="module")
def case(history, tmp_path_factory):
    cases = Cases(history, tmp_path_factory.mktemp("copies"))
    yield cases
    cases.end()


def codes(done):
    return [code for code, _ in done]


def python(code):
    return ["python", code]


EVERY_COMMAND = (
    "train", "promote", python(WRITE), "predict rows.csv out.csv",
    "predict rows.parquet out.parquet", python(COMPARE), "monitor rows.csv",
)  # fmt: skip


def works(done):
    """Assert that every command worked, and that predictions are those of the model on `load`."""
    assert codes(done)[:6] == [0] * 6 and done[6][0] in (0, 3)
    differences = re.findall(r"out\.\w+ (\S+)", done[5][1])
    assert len(differences) == 2 and max(map(float, differences)) < 1e-9


def refused(done, *parts):
    """Assert that `train` refused, in a sentence with these parts, before a run existed."""
    ((code, told),) = done
    sentence = told.rstrip().rpartition("\n")[2]
    assert code == 1 and all(part in sentence for part in parts), told


# The same row means the same to every reader


HOUSES = "alley,zone,size,late\n" + "".join(
    f"{('NA', 'Grvl', 'Pave')[n % 3]},{('north', 'south')[n % 2] if n > 1 else ''},"
    f"{50 + n * 7 % 150},{50 + n * 7 % 150 + (-100, 0, 40)[n % 3] + 10 * (n % 2)}\n"
    for n in range(300)
)
CSV = "def load():\n    return pd.read_csv(FILE, keep_default_na={})\n"


def test_na_text(case):
    model = TEXTS.format(missing="np.nan", columns='["alley", "zone"]') + PRICES
    files = {"rows.csv": HOUSES}
    done = case("na_text", *EVERY_COMMAND, data=CSV.format(True), model=model, **files)
    works(done)
    assert "stable" in done[6][1]


def test_na_text_that_is_a_value(case):
    model = TEXTS.format(missing="np.nan", columns='["alley", "zone"]') + PRICES
    works(case(
        "na_value", *EVERY_COMMAND, data=CSV.format(False), model=model, **{"rows.csv": HOUSES}
    ))  # fmt: skip


def test_empty_text(case):
    rare = """
def changed(frame, random):
    frame["remark"] = pd.Series([None] * 300, dtype=object)
    frame.loc[split(frame)[0].index[:2], "remark"] = "urgent"
    return frame
"""
    model = TEXTS.format(missing="None", columns='["remark"]')
    works(case("empty_text", *EVERY_COMMAND, data=rare, model=model))


# An unknown word never means its opposite; an optional setting is optional


@pytest.mark.parametrize(
    ("name", "change", "parts"),
    [
        ("greater_sign", 'THRESHOLDS = {"roc_auc": (">", 0.95)}', ("'>'", '">=" or "<="')),
        ("direction_word", 'PRIMARY = ("roc_auc", "max")', ("'max'", '"maximize" or "minimize"')),
        ("task_word", 'TASK = "Classifier"', ("'Classifier'", '"classifier" or "regressor"')),
    ],
)
def test_words(case, name, change, parts):
    refused(case(name, "train", model=change), "model.py: ", *parts)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("no_threshold", 'THRESHOLDS = {"recall": (">=", 0.5)}'),
        ("empty_thresholds", "THRESHOLDS = {}"),
        ("absent_thresholds", "del THRESHOLDS"),
    ],
)
def test_optional_settings(case, name, change):
    recall = """
def measure(model, X, y):
    return {"roc_auc": metrics.roc_auc_score(y, model.predict_proba(X)[:, 1]),
            "recall": metrics.recall_score(y, model.predict(X))}
"""
    done = case(name, "train", "promote", model=f"{change}\n{recall}")
    assert codes(done) == [0, 0] and "Version 1 is the champion" in done[1][1]


# What `train` accepts, later commands can take


def test_nullable(case):
    types = """
def changed(frame, random):
    return frame.assign(visits=pd.array(np.where(random.random(300) < 0.05, None, 3), "Int64"))
"""
    works(case("nullable", *EVERY_COMMAND, data=types))


def test_types_with_gaps(case):
    types = """
def changed(frame, random):
    gaps = random.random(300) < 0.05
    return frame.assign(
        flag=pd.array(np.where(gaps, None, frame.days > 9), "boolean"),
        count=pd.array(np.where(gaps, None, frame.days), "UInt16"),
        level=pd.Categorical.from_codes(np.where(gaps, -1, frame.days % 3), [1, 2, 3]),
    )
"""
    works(case("types_with_gaps", *EVERY_COMMAND, data=types))


@pytest.mark.parametrize(
    ("name", "change", "parts"),
    [
        ("embedding", "frame.assign(v=random.normal(size=(300, 4)).tolist())", ("'v'", "list")),
        ("int_columns", "frame.rename(columns={'days': 0})", ("0", "frame.rename(columns=str)")),
        ("dicts", "frame.assign(v=[{'a': 1}] * 300)", ("'v'", "dict")),
        ("intervals", "frame.assign(v=pd.cut(frame.days, 3))", ("'v'",)),
    ],
)
def test_columns(case, name, change, parts):
    data = f"def changed(frame, random):\n    return {change}\n"
    refused(case(name, "train", data=data), "data.py: ", *parts)


@pytest.mark.parametrize(
    ("name", "function"),
    [("lambda", "lambda X: X[['days']]"), ("function_in_a_function", "inner()")],
)
def test_functions_without_a_name(case, name, function):
    inner = "def inner():\n    def chosen(X):\n        return X\n    return chosen\n"
    build = (
        f"def build(**p):\n    return make_pipeline(FunctionTransformer({function}), "
        "RandomForestClassifier(**p))\n"
    )
    refused(case(name, "train", model=inner + build), "cannot be stored", "with a name")


# What else a run holds, and values that change their type as text


def reproduced(done):
    """Assert that the steps worked, and that the newest run was reproduced."""
    assert codes(done) == [0] * len(done) and "Reproduced, within 1e-06" in done[-1][1]


LAST_RUN = """
import importlib, sys
config = importlib.import_module(package + ".config")
(run,) = mlflow.search_runs(
    search_all_experiments=True, max_results=1, order_by=["attributes.start_time DESC"],
    filter_string="tags.step = 'train'", output_format="list")
sys.argv[1:] = ["reproduce", run.info.run_id]
importlib.import_module(package + ".cli").main()
"""


def test_system_metrics(case):
    on, off = (f"mlflow.{word}_system_metrics_logging()" for word in ("enable", "disable"))
    now = "mlflow.set_system_metrics_sampling_interval(0.1)"
    steps = python(f"{on}; {now}"), "train", python(off), python(LAST_RUN)
    reproduced(case("system_metrics", *steps))


def test_autolog(case):
    steps = "train -p n_estimators=7", python(LAST_RUN)
    done = case(
        "autolog", *steps, python("mlflow.sklearn.autolog(disable=True)"),
        model="import mlflow\nmlflow.sklearn.autolog()\n",
    )  # fmt: skip
    reproduced(done[:2])


def test_a_parameter_that_build_logs(case):
    build = """
def build(**params):
    import mlflow

    if mlflow.active_run():
        mlflow.log_param("trees", "many")
    return make_pipeline(SimpleImputer(), RandomForestClassifier(**params))
"""
    reproduced(case("log_in_build", "train", python(LAST_RUN), model=build))


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("infinite_param", '{"C": np.inf}', "train"),
        ("infinite_param_typed", '{"C": 1.0}', "train -p C=inf"),
        ("text_of_a_digit", '{"C": 1.0, "label": "0"}', "train"),
        ("none_and_tuple", '{"C": 1.0, "label": (1, None)}', "train"),
    ],
)
def test_parameters_keep_their_types(case, name, params, words):
    build = """
def build(C, label=None):
    assert isinstance(C, float) and label in (None, "0", (1, None))
    return make_pipeline(SimpleImputer(), LogisticRegression(C=C))
"""
    reproduced(case(name, words, python(LAST_RUN), model=f"PARAMS = {params}\n{build}"))


def test_own_seed(case):
    done = case("own_seed", "train -p seed=7", model='PARAMS = {"n_estimators": 5, "seed": 42}')
    refused(done, "model.py: ", '"seed"', "rename it")


# The user's functions


STATES = """
def changed(frame, random):
    state = np.where(frame.days > 57, "broken", np.where(frame.days > 30, "warn", "ok"))
    return frame.assign(late=state)
"""
QUIET = python(WRITE + 'frame[frame.late != "broken"].to_csv("rows.csv", index=False)')


def test_rare_class(case):
    ovr = """
def measure(model, X, y):
    shares = model.predict_proba(X)
    return {"roc_auc": metrics.roc_auc_score(y, shares, multi_class="ovr")}
"""
    done = case("rare_class", "train", "promote", QUIET, "monitor rows.csv", data=STATES, model=ovr)
    assert codes(done)[:3] == [0] * 3 and done[3][0] in (0, 3)
    assert "annot tell: no label of class broken" in done[3][1] and "Report " in done[3][1]


def test_a_measure_that_wants_many_rows(case):
    many = """
def measure(model, X, y):
    if len(y) != 90:
        raise ValueError("not the rows that I know")
    return {"roc_auc": metrics.roc_auc_score(y, model.predict_proba(X)[:, 1])}
"""
    done = case("many_rows", "train", "promote", python(WRITE), "monitor rows.csv", model=many)
    assert codes(done) == [0] * 4
    assert "ValueError: not the rows that I know" in done[3][1] and "cannot tell" in done[3][1]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("log_in_load", "def changed(frame, random):\n    {}\n    return frame\n"),
        ("log_in_split", "def split(frame):\n    {}\n    return frame[:200], frame[200:]\n"),
    ],
)
def test_what_data_py_logs(case, name, data):
    log = 'import mlflow; mlflow.log_param("source", "a file")'
    found = """
import importlib
config = importlib.import_module(package + ".config")
print([run.data.params["source"] for run in mlflow.search_runs(
    experiment_names=[config.EXPERIMENT], output_format="list")])
print(mlflow.search_runs(["0"], output_format="list"))
"""
    done = case(name, "train", python(found), data=data.format(log))
    assert codes(done) == [0, 0] and done[1][1] == "['a file']\n[]\n"


# The registry is believed after a look


def changing(code):
    return python(f"""
import importlib
config = importlib.import_module(package + ".config")
version = client.search_model_versions(f"name = '{{config.MODEL}}'")
{code}""")


def test_no_signature(case):
    by_hand = changing("""
from sklearn.linear_model import LogisticRegression
data = importlib.import_module(package + ".data")
mlflow.set_experiment(config.EXPERIMENT)
frame = data.load()
fitted = LogisticRegression().fit(frame.drop(columns="late"), frame.late)
with mlflow.start_run():
    mlflow.sklearn.log_model(fitted, name="model", registered_model_name=config.MODEL)
client.set_registered_model_alias(config.MODEL, "champion", 1)
""")
    done = case("no_signature", by_hand, python(WRITE), "predict rows.csv out.csv",
                "monitor rows.csv", "train", "promote")  # fmt: skip
    assert codes(done) == [0, 0, 1, 1, 0, 1]
    assert "has no signature" in done[2][1] and "train one with this project" in done[3][1]
    assert "promote --unopposed" in done[5][1]


def test_renamed_experiment(case):
    rename = changing("""
experiment = client.get_experiment_by_name(config.EXPERIMENT)
client.rename_experiment(experiment.experiment_id, "tumours 2026")
""")
    done = case("renamed_experiment", "train", "promote", rename, python(WRITE), "monitor rows.csv",
                python(LAST_RUN))  # fmt: skip
    assert codes(done) == [0] * 6 and "Verdict" in done[4][1]


def test_deleted_run(case):
    delete = changing("client.delete_run(version[0].run_id)")
    again = changing("""
sys = importlib.import_module("sys")
sys.argv[1:] = ["reproduce", version[0].run_id]
importlib.import_module(package + ".cli").main()
""")
    done = case("deleted_run", "train", "promote", delete, python(WRITE), "monitor rows.csv", again)
    assert codes(done) == [0, 0, 0, 0, 1, 1]
    assert "is deleted" in done[4][1] and "runs restore --run-id" in done[4][1]
    assert "is deleted" in done[5][1] and "Training" not in done[5][1]


def test_same_number(case):
    delete = changing("client.delete_registered_model(config.MODEL)")
    life = "train", "promote", "monitor rows.csv"
    done = case("same_number", python(WRITE), *life, delete, "train -p n_estimators=6", *life[1:])
    assert codes(done) == [0] * 8
    names = changing("""
print(sorted(run.info.run_name for run in mlflow.search_runs(
    experiment_names=["same-number-monitoring"], output_format="list")))
""")
    ((_, told),) = case("names_of_reports", names)
    assert eval(told) == ["monitoring of version 1"] * 2 + ["report 1 on version 1"] * 2


def test_a_renamed_model(case):
    rename = changing('client.rename_registered_model(config.MODEL, "kept under another name")')
    later = "predict rows.csv out.csv", "monitor rows.csv", "promote", "rollback"
    done = case("renamed_model", "train", "promote", rename, python(WRITE), *later)
    assert codes(done) == [0, 0, 0, 0, 1, 1, 1, 1]
    assert all("There is no ch" in told for _, told in done[4:])


# A crash between the decision and what it should change


@pytest.mark.skipif(os.geteuid() != 0, reason="setpriv needs root: try it as root")
def test_no_user_name(history):
    """As in a container that runs under a number which the system has no name for."""
    nobody = (
        "env -u USER -u LOGNAME -u USERNAME -u LNAME HOME=/nowhere setpriv --reuid 12345 "
        "--regid 12345 --clear-groups --inh-caps +dac_override --ambient-caps +dac_override"
    )
    for words in ("train -p n_estimators=20", "promote"):
        command = f"{nobody} {history.project.script('my-ml-project')} {words}"
        done = history.project.run(command, **history.env)
        assert not done.returncode, done.stderr
        assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    ((by,),) = history.ask(
        "SELECT value FROM model_version_tags WHERE key = 'promoted_by' AND name = 'my-ml-project'"
    )
    assert by == "12345"


def test_two_at_the_same_moment(history):
    def both(*words):
        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(history.run, words))
        assert not any("Traceback" in one.stderr for one in done)
        return done

    done = both("train -p n_estimators=30 --seed 1", "train -p n_estimators=30 --seed 2")
    numbers = [re.search(r"/versions/(\d+)", one.stdout)[1] for one in done]
    assert len({*numbers}) == 2
    done = both(*(f"promote {number}" for number in numbers))
    promoted = {one for one, end in zip(numbers, done, strict=True) if not end.returncode}
    ((champion,),) = history.ask(
        "SELECT version FROM registered_model_aliases WHERE alias = 'champion' "
        "AND name = 'my-ml-project'"
    )
    assert str(champion) in (promoted or {"1"})  # the first is that of the test before
    assert all("is refused" in one.stderr or "meanwhile" in one.stderr or not one.returncode
               for one in done)  # fmt: skip


# Cases of other tests


def test_every_case_has_a_test():
    elsewhere = {
        "bom_log": "test_readers.py: def test_the_model_is_given_the_same_in_each_way",
        "corporate_index": "test_hook.py: def test_an_index_that_only_pip_knows_is_named",
        "doctor_after_promote": "test_life.py: def test_after_all_that_nothing_is_wrong",
        "remote_browser": "test_server.py: def test_the_network_is_let_in_by_a_decision_only",
    }
    places = [ROOT / "tests", ROOT / "{{cookiecutter.project_slug}}" / "tests"]
    for place in elsewhere.values():
        file, _, name = place.partition(": ")
        assert any(name in (folder / file).read_text("utf-8") for folder in places
                   if (folder / file).is_file())  # fmt: skip
