"""How often `monitor` is wrong on data that does not shift; run by `life.py` in a project.

    python alarms.py RESAMPLINGS

Each resampling draws reference and new rows from one and the same distribution: parts of the
sample's rows without replacement, which a model that saw neither scores; and, five times as often,
rows of a made-up table with numbers, ties, skew, categories, text and missing values.
"""

import io
import sys
from contextlib import redirect_stdout

import numpy as np
import pandas as pd
from my_ml_project import data, model
from my_ml_project.lifecycle import drift, monitor, report

RESAMPLINGS = int(sys.argv[1])
MADE_UP = 5 * RESAMPLINGS


def sample_rows(generator):
    """Return whether drift, and whether decay, is said of rows of the sample."""
    rows = data.load()
    places = generator.permutation(len(rows))
    training, old, new = (rows.iloc[part] for part in np.split(places, [126, 269]))
    X, y = training.drop(columns=data.TARGET), training[data.TARGET]
    fitted = model.build(n_estimators=10, random_state=0).fit(X, y)
    both = [monitor.answered(fitted, part.drop(columns=data.TARGET)) for part in (old, new)]

    class Version:
        tags = {}

    with redirect_stdout(io.StringIO()):  # a progress bar
        quality = monitor.qualities(report.Watched(Version, fitted, old, new, new))
    verdict = monitor.judgement(drift.compare(*both), quality)
    return "drift" in verdict, "decay" in verdict


def made_up_rows(generator, new, old=5000):
    """Return whether drift is said of two parts of a made-up table."""
    n = old + new
    columns = {f"number {k}": generator.normal(size=n) for k in range(5)}
    columns |= {f"skewed {k}": generator.lognormal(sigma=2, size=n) for k in range(5)}
    columns |= {f"tied {k}": generator.poisson(8, n).astype(float) for k in range(5)}
    columns |= {
        f"category {k}": generator.choice([f"c{x}" for x in range(k)], n, p=zipf(k))
        for k in (2, 3, 5, 10, 50)
    }
    columns |= {f"rare {k}": generator.choice([*"abc"], n, p=[0.6, 0.396, 0.004]) for k in range(5)}
    columns["text"] = [f"{x} {'a' * w}" for x, w in enumerate(generator.poisson(20, n))]
    table = pd.DataFrame(columns)
    for name in table.columns[::2]:
        table.loc[generator.random(n) < 0.03, name] = None
    return bool(drift.compare(table[:old], table[old:])["drift"].any())


def zipf(k):
    weights = 1 / np.arange(1, k + 1)
    return weights / weights.sum()


def share(count, number):
    return f"{count:2} in {number:4} ({count / number:.1%})"


def main():
    generator = np.random.default_rng(0)
    sample = np.array([sample_rows(generator) for _ in range(RESAMPLINGS)]).sum(axis=0)
    drifts, decays = sample
    print(f"false alarms, at a stated rate of {drift.ALPHA:.0%}")
    print(f"the sample, 143 against 300 rows, 32 columns   {share(drifts, RESAMPLINGS)} of drift")
    print(f"                                               {share(decays, RESAMPLINGS)} of decay")
    for new in (1000, 50):
        many = sum(made_up_rows(generator, new=new) for _ in range(MADE_UP))
        print(f"made up, 5000 against {new:4} rows, 26 columns    {share(many, MADE_UP)} of drift")


if __name__ == "__main__":
    main()
