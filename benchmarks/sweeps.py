"""What sweeps cost, and what a second job brings; the same for folders of files.

    uv run python benchmarks/sweeps.py [--repeats 3]

Makes a project with the real command in a temporary folder. A trial of the sweep fits five forests
that use one core each. A trial costs the difference between two sweeps of different length, so that
start, pictures and the final `train` do not count; they are in the seconds of the whole command.
Cheap trials (a model that fits nothing) show what is spent on Optuna and on logging, here and in
the server. One job and two take turns, so that each ratio is between neighbours in time.
"""

import argparse
import subprocess
import time
from statistics import median

import psutil
from history import made, serving
from large import cost

COSTLY = '"n_estimators": trial.suggest_int("n_estimators", 150, 160),\n    }\n'
CHEAP = '"n_estimators": trial.suggest_int("n_estimators", 50, 60),\n    }\n'
DUMMY = (
    "    from sklearn.dummy import DummyClassifier\n\n"
    "    return make_pipeline(SimpleImputer(), DummyClassifier(random_state=len(params)))\n"
)
START = """
import time
from my_ml_project.lifecycle import executors, folds
from my_ml_project import data, model
if __name__ == "__main__":
    train, _ = data.split(data.load())
    X, y = train.drop(columns=data.TARGET), train[data.TARGET]
    rows = folds.folded(X, X, y)
    for jobs in (1, 2):
        begin = time.monotonic()
        with executors.workers(jobs, "", rows) as hands:
            for number in range(jobs):
                hands.start(number, folds.fold_metrics, model.PARAMS | {"n_estimators": 1}, 0, 0)
            done = []
            while len(done) < jobs:
                done += hands.wait()
        assert not any(one.error for one in done)
        print(time.monotonic() - begin)
"""
FILES = """
import sys, numpy as np
from my_ml_project import data
X = data.load().drop(columns=data.TARGET)
drawn = X.iloc[np.random.default_rng(0).integers(len(X), size=200_000)]
for number in range(8):
    drawn.to_parquet(f"{sys.argv[1]}/{number}.parquet", index=False)
"""


def write_model(file, kept, space, build=None):
    """Give the sample's model another search space, and one that fits nothing if asked for."""
    begin = kept.index("    return {\n", kept.index("def space("))
    end = kept.index("\n\ndef measure(")
    text = kept[:begin] + "    return {" + space + kept[end:]
    if build:
        begin = text.index("    return make_pipeline(")
        text = text[:begin] + build + text[text.index("\n\ndef space(") :]
    file.write_text(text, "utf-8")


def per_trial(command, env, jobs, few, many):
    """Return the seconds and CPU seconds of a trial, and the seconds of the longer sweep."""
    ways = [
        cost([command, "tune", "--trials", str(count), "--jobs", str(jobs)], env)
        for count in (few, many)
    ]
    (first, first_cpu, _), (second, second_cpu, _) = ways
    return (second - first) / (many - few), (second_cpu - first_cpu) / (many - few), second


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with made() as (project, env, root):
        file = project / "src/my_ml_project/model.py"
        kept = file.read_text("utf-8")
        command, python = project / ".venv/bin/my-ml-project", project / ".venv/bin/python"
        with serving(project, env):
            # This process has started nothing else.
            family = psutil.Process().children(recursive=True)

            write_model(file, kept, COSTLY)
            found = {1: [], 2: []}
            for _ in range(repeats):
                for jobs, measured in found.items():
                    measured.append(per_trial(command, env, jobs, 8, 32))
            for jobs, measured in found.items():
                wall, cpu, whole = (median(one) for one in zip(*measured, strict=True))
                print(f"{jobs} jobs: {wall:.2f} s and {cpu:.2f} CPU s a trial of five forests; "
                      f"a sweep of 32 trials {whole:.0f} s", flush=True)  # fmt: skip
            for name, place in (("a trial", 0), ("the whole command", 2)):
                ratios = [one[place] / two[place] for one, two in zip(*found.values(), strict=True)]
                print(f"  one job to two, {name}: {median(ratios):.2f} "
                      f"({min(ratios):.2f}-{max(ratios):.2f})", flush=True)  # fmt: skip

            write_model(file, kept, CHEAP, DUMMY)
            before = sum(sum(one.cpu_times()[:2]) for one in family)
            wall, cpu, _ = per_trial(command, env, 1, 20, 120)
            spent = sum(sum(one.cpu_times()[:2]) for one in family) - before
            print(f"a trial that fits nothing: {wall:.3f} s, {cpu:.3f} CPU s of the command and its"
                  f" process, {spent / 140:.3f} CPU s of the server", flush=True)  # fmt: skip
            file.write_text(kept, "utf-8")

            script = root / "start.py"
            script.write_text(START)
            starts = [
                subprocess.run([python, script], env=env, capture_output=True, text=True,
                               check=True).stdout.split()
                for _ in range(repeats)
            ]  # fmt: skip
            one, two = (median(map(float, seconds)) for seconds in zip(*starts, strict=True))
            print(f"until the first result: one process {one:.1f} s, two {two:.1f} s", flush=True)

            for words in ("train -p n_estimators=50", "promote"):
                subprocess.run([command, *words.split()], env=env, check=True,
                               stdout=subprocess.DEVNULL)  # fmt: skip
            (root / "in").mkdir()
            subprocess.run([python, "-c", FILES, root / "in"], env=env, check=True)
            found = {1: [], 2: []}
            for n in range(repeats):
                for jobs, measured in found.items():
                    begin = time.monotonic()
                    words = ["predict", root / "in", root / f"out-{jobs}-{n}", "--jobs", str(jobs)]
                    subprocess.run([command, *words], env=env, check=True,
                                   stdout=subprocess.DEVNULL)  # fmt: skip
                    measured.append(time.monotonic() - begin)
            ratio = median(one / two for one, two in zip(*found.values(), strict=True))
            print(f"predict of 8 files of 200000 rows: {median(found[1]):.1f} s with one job, "
                  f"{median(found[2]):.1f} s with two, {ratio:.2f} times as fast")  # fmt: skip


if __name__ == "__main__":
    main()
