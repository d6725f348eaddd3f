"""What tracking costs: `train` against the same without MLflow and by hand; and `promote`.

    uv run python benchmarks/train.py [--rounds 5]

Makes a project with the real command in a temporary folder. In each round, in turn:
- `train`: the project's command, with its contract, its proof and its registered version;
- without MLflow: the same load, split, fit, measure and plots, and the model stored by skops;
- `promote`: the gate with that version as the challenger, beside a champion;
- by hand: the same into a SQLite file with MLflow's defaults, as a tutorial writes it; cloudpickle,
  because MLflow's own default format refuses a forest.
Those without the project run in a folder of their own, with copies of `data.py` and `model.py`.

CPU seconds are user and system time of the process, and are sturdier than wall seconds; those of
the project's server are not in them.
"""

import argparse
import os
import shutil
import subprocess
import time
from statistics import median

from history import made, serving

SAME = """
import data, model
training, held_out = data.split(data.load())
fitted = model.build(**model.PARAMS).fit(training.drop(columns=data.TARGET), training[data.TARGET])
X, y = held_out.drop(columns=data.TARGET), held_out[data.TARGET]
metrics = model.measure(fitted, X, y)
"""
WITHOUT = (
    SAME
    + """
for name, figure in model.plots(fitted, X, y).items():
    figure.savefig(f"{name}.png")
import skops.io
skops.io.dump(fitted, "model.skops")
"""
)
BY_HAND = (
    "import mlflow\nmlflow.set_experiment('tumours')\n"
    + SAME
    + """
with mlflow.start_run():
    mlflow.log_params(model.PARAMS)
    mlflow.log_metrics(metrics)
    for name, figure in model.plots(fitted, X, y).items():
        mlflow.log_figure(figure, f"{name}.png")
    info = mlflow.sklearn.log_model(
        fitted, name="model", input_example=X.head(5), serialization_format="cloudpickle",
        registered_model_name="tumours",
    )
"""
)


def cost(words, folder, env):
    """Return wall and CPU seconds of a process."""
    begin = time.monotonic()
    process = subprocess.Popen(
        words, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    told = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    assert not status or b"refused" in told.encode(), told  # of equal models, by the gate
    return time.monotonic() - begin, usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with made() as (project, env, root):
        (plain := root / "plain").mkdir()
        for name in ("data.py", "model.py"):
            shutil.copy(project / "src/my_ml_project" / name, plain)
        hand = {name: value for name, value in env.items() if not name.startswith("MLFLOW")}
        hand |= {"MLFLOW_TRACKING_URI": f"sqlite:///{plain}/mlflow.db"}
        python, command = (project / ".venv/bin" / name for name in ("python", "my-ml-project"))
        ways = {
            "train": ([command, "train"], project, env),
            "promote": ([command, "promote"], project, env),
            "without MLflow": ([python, "-c", WITHOUT], plain, env),
            "MLflow by hand": ([python, "-c", BY_HAND], plain, hand),
        }
        found = {name: [] for name in ways}
        with serving(project, env):
            for words in (["train", "-p", "n_estimators=5"], ["promote"]):
                cost([command, *words], project, env)
            for way in ways.values():  # compiles, and makes the databases
                cost(*way)
            for _ in range(asked.rounds):
                for name, way in ways.items():
                    found[name].append(cost(*way))
        print(f"medians of {asked.rounds} rounds; ratios of neighbours in time")
        mine = found["train"]
        for name, costs in found.items():
            wall, cpu = (median(one[kind] for one in costs) for kind in (0, 1))
            ratios = [
                median(a[kind] / b[kind] for a, b in zip(mine, costs, strict=True))
                for kind in (0, 1)
            ]
            print(f"{name:<16} {wall:5.1f} s, CPU {cpu:4.1f} s; train takes "
                  f"{ratios[0]:.2f} x wall, {ratios[1]:.2f} x CPU")  # fmt: skip


if __name__ == "__main__":
    main()
