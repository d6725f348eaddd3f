"""Large data: seconds and peak memory of `train`, `promote` and `monitor`.

    uv run python benchmarks/large.py [--rows 1000000 10000000] [--only train]

Makes a project with the real command in a temporary folder, whose `load` returns rows drawn from
the sample, each value changed by 2 %: 30 features and the target, 248 bytes a row. A quarter is
held out. The model is a tree of depth 6, so that the commands are measured rather than the fit,
whose own share is measured beside them in a process without MLflow. `monitor` gets a Parquet file
of as many rows.
"""

import argparse
import os
import subprocess
import time

from history import made, serving

LOAD = '''

def load_sample() -> pd.DataFrame:
    """Return the sample."""
    bunch = load_breast_cancer(as_frame=True)
    frame = bunch.data.rename(columns=lambda name: name.replace(" ", "_"))
    return frame.assign(**{TARGET: (bunch.target == 0).astype(int)})


def load() -> pd.DataFrame:
    """Return many rows like those of the sample."""
    rows, generator = int(os.environ["ROWS"]), np.random.default_rng(0)
    sample = load_sample()
    drawn = generator.integers(len(sample), size=rows)
    columns = {
        name: sample[name].to_numpy()[drawn] * generator.normal(1, 0.02, rows)
        for name in sample.columns.drop(TARGET)
    }
    return pd.DataFrame({**columns, TARGET: sample[TARGET].to_numpy()[drawn]})
'''
FIT = """
from my_ml_project import data, model
params = model.PARAMS | {"n_estimators": 1, "max_depth": 6}
training, held_out = data.split(data.load())
X, y = training.drop(columns=data.TARGET), training[data.TARGET]
fitted = model.build(**params).fit(X, y)
X, y = held_out.drop(columns=data.TARGET), held_out[data.TARGET]
model.measure(fitted, X, y), model.plots(fitted, X, y)
"""
FILE = (
    "import sys; from my_ml_project import data; data.load().to_parquet(sys.argv[1], index=False)"
)


def cost(words, env):
    """Return the seconds, CPU seconds and peak megabytes of a process."""
    begin = time.monotonic()
    process = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert not status, words
    cpu = usage.ru_utime + usage.ru_stime
    return time.monotonic() - begin, cpu, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--only", choices=["train"])
    asked = parser.parse_args()
    with made() as (project, env, root):
        file = project / "src/my_ml_project/data.py"
        kept = file.read_text("utf-8")
        begin, end = kept.index("\n\ndef load("), kept.index("\n\ndef split(")
        head = kept[:begin].replace(
            "import pandas", "import os\n\nimport numpy as np\nimport pandas"
        )
        file.write_text(head + LOAD + kept[end:], "utf-8")
        commands = project / ".venv/bin"
        params = ["-p", "n_estimators=1", "-p", "max_depth=6"]
        ways = {
            "load, split, fit, measure": [commands / "python", "-c", FIT],
            "train": [commands / "my-ml-project", "train", *params],
        }
        if not asked.only:
            ways |= {
                "promote": [commands / "my-ml-project", "promote", "--unopposed"],
                "monitor": [commands / "my-ml-project", "monitor", root / "rows.parquet"],
            }
        with serving(project, env):
            for rows in asked.rows:
                now = env | {"ROWS": str(rows)}
                if not asked.only:
                    write = [commands / "python", "-c", FILE, root / "rows.parquet"]
                    subprocess.run(write, env=now, check=True)
                for name, words in ways.items():
                    wall, cpu, peak = cost(words, now)
                    print(
                        f"{rows:>9} rows  {name:<26} {wall:6.0f} s, CPU {cpu:6.0f} s, "
                        f"peak {peak:6.0f} MB",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
