"""How often `monitor` is wrong on data that does not shift; run by `life.py` in a project.

    python alarms.py RESAMPLINGS

Drift: each resampling draws reference and new rows from one distribution: parts of the sample's
rows without replacement, which a model that saw neither scores; and, five times as often, rows of
a made-up table with numbers, ties, skew, categories, text, missing values, and values that occur
once. Decay: 30 models of equal quality answer 400 held-out rows and 1000 later ones; once the
first is watched, and once the one that was the best on the held-out rows, as after 30 attempts at
the gate. They err on the same rows, as a model does that is trained again, or on others. Then a
model that is exactly at its threshold. Last, how far off the extrapolated
p-values of tables of counts are.
"""

import io
import sys
from contextlib import redirect_stdout

import numpy as np
import pandas as pd
from my_ml_project import data, model
from my_ml_project.lifecycle import drift, monitor, quality
from scipy import stats
from sklearn import metrics

RESAMPLINGS = int(sys.argv[1])
MADE_UP = 5 * RESAMPLINGS
CANDIDATES, HELD_OUT, LATER = 30, 400, 1000
QUIET = redirect_stdout(io.StringIO())  # of progress bars


def sample_rows(generator):
    """Return whether drift, and whether decay, is said of rows of the sample."""
    rows = data.load()
    places = generator.permutation(len(rows))
    training, old, new = (rows.iloc[part] for part in np.split(places, [126, 269]))
    X, y = training.drop(columns=data.TARGET), training[data.TARGET]
    fitted = model.build(n_estimators=10, random_state=0).fit(X, y)
    both = [monitor.answered(fitted, part.drop(columns=data.TARGET)) for part in (old, new)]
    with QUIET:
        found = quality.assess(fitted, old, new)
    return drift.compare(*both)["drift"].any(), found.decay


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
    columns |= {
        f"once {k}": [f"v{x}" for x in generator.zipf(1 + k / 5, n) % 10**7] for k in range(2, 7)
    }
    lengths, ends = generator.poisson(20, n), generator.integers(2000, size=n)
    columns["text"] = [f"{'a' * w} {x}" for w, x in zip(lengths, ends, strict=True)]
    table = pd.DataFrame(columns)
    for name in table.columns[::2]:
        table.loc[generator.random(n) < 0.03, name] = None
    return bool(drift.compare(table[:old], table[old:])["drift"].any())


def zipf(k):
    weights = 1 / np.arange(1, k + 1)
    return weights / weights.sum()


def fast_measure(scores, X, y):
    """Return AUC and recall as `measure` of the sample does, in less time."""
    shares, truth = scores.predict_proba(X)[:, 1], y.to_numpy(bool)
    ranks, positive = stats.rankdata(shares), truth.sum()
    above = ranks[truth].sum() - positive * (positive + 1) / 2
    auc = above / (positive * (len(truth) - positive))
    return {"roc_auc": auc, "recall": (shares[truth] > 0.5).mean()}


class Scores:
    """A model whose answers are a column of its rows."""

    def __init__(self, name):
        self.name = name

    def predict_proba(self, X):
        return np.column_stack([1 - X[self.name], X[self.name]])

    def predict(self, X):
        return (X[self.name] > 0.5).astype(int).to_numpy()


def candidates(generator, own):
    """Return whether decay is said of the first of equal models, and of the best of them.

    What each errs by on its own has a standard deviation of `own`, beside 1 that all share.
    """
    size = HELD_OUT + LATER
    truth = (generator.random(size) < 0.4).astype(int)
    known = 2 * truth + generator.normal(size=size)  # what all of them see
    rows = {
        str(k): 1 / (1 + np.exp(1 - known - own * generator.normal(size=size)))
        for k in range(CANDIDATES)
    }
    table = pd.DataFrame(rows | {data.TARGET: truth})
    old, new = table[:HELD_OUT], table[HELD_OUT:]
    best = max(rows, key=lambda k: metrics.roc_auc_score(old[data.TARGET], old[k]))
    with QUIET:
        return [quality.assess(Scores(k), old, new).decay for k in ("0", best)]


def at_the_threshold(generator):
    """Return whether decay is said of a model whose recall is exactly its threshold, on average."""
    truth = np.repeat([0, 1], [HELD_OUT, HELD_OUT])
    right = generator.random(len(truth)) < 0.85
    table = pd.DataFrame({"0": np.where(right, truth, 1 - truth), data.TARGET: truth})
    places = generator.permutation(len(table))
    with QUIET:
        found = quality.assess(Scores("0"), table.iloc[places[:400]], table.iloc[places[400:]])
    return found.decay


def beyond(generator):
    """Print how many times larger the probability of a far table is than the extrapolated one."""
    for both, new in (
        ([2525, 2525], 50),
        ([505, 4545], 50),
        ([3030, 1500, 520], 50),
        ([3030, 1000, 600, 400, 520], 52),
        ([3600, 2370, 30], 1000),
        ([40, 5960], 1000),
        ([60, 60, 30], 50),
        ([2048, 1024, 683, 512, 410, 341, 293, 256, 228, 205], 1000),
    ):
        table = np.array([np.array(both) - new // len(both), [new // len(both)] * len(both)]).T
        table[0] += [len(both) * (new // len(both)) - new, new - len(both) * (new // len(both))]
        few = np.concatenate([drift.drawn(table, generator) for _ in range(10)])
        many = np.sort(np.concatenate([drift.drawn(table, generator) for _ in range(300)]))
        told = []
        for count in (30, 5):
            true = np.mean(many >= many[-count] - 1e-9)
            told.append(f"{true / drift.beyond(table, many[-count], few):.1f} at {true:.0e}")
        asymptotic = true / stats.chi2.sf(many[-5], len(both) - 1)
        print(f"{len(both):2} categories, {sum(both)} rows, {new:4} new: "
              f"{', '.join(told)} (chi-squared: {asymptotic:.0f})")  # fmt: skip


def share(count, number):
    return f"{count:2} in {number:4} ({count / number:.1%})"


def main():
    generator = np.random.default_rng(0)
    print(f"false alarms, at a stated rate of {drift.ALPHA:.0%}")
    quality.THRESHOLDS.clear()
    drifts, decays = np.array([sample_rows(generator) for _ in range(RESAMPLINGS)]).sum(axis=0)
    print(f"the sample, 143 against 300 rows, 32 columns   {share(drifts, RESAMPLINGS)} of drift")
    print(f"                                               {share(decays, RESAMPLINGS)} of decay")
    for new in (1000, 50):
        many = sum(made_up_rows(generator, new=new) for _ in range(MADE_UP))
        print(f"made up, 5000 against {new:4} rows, 31 columns    {share(many, MADE_UP)} of drift")
    quality.measure = fast_measure
    for what, own in (("alike", 0.3), ("different", 0.7)):
        said = [candidates(generator, own) for _ in range(MADE_UP)]
        first, best = np.array(said).sum(axis=0)
        print(f"any of {CANDIDATES} {what} models          {share(first, MADE_UP)} of decay")
        print(f"the best of them on the held-out rows  {share(best, MADE_UP)} of decay")
    quality.THRESHOLDS["recall"] = (">=", 0.85)
    at = sum(at_the_threshold(generator) for _ in range(MADE_UP))
    print(f"recall exactly at its threshold, 400 labels    {share(at, MADE_UP)} of decay")
    print("the true probability of a table, in extrapolated ones")
    beyond(generator)


if __name__ == "__main__":
    main()
