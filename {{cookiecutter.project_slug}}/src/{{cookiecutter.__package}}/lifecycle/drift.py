"""Whether two sets of rows come from the same distribution, column by column, and how it looks.

Numbers are compared by the two-sample Kolmogorov-Smirnov test, categories by the chi-squared one,
text by its length, missing values by Fisher's exact test; every p-value is multiplied by the
number of tests (Bonferroni), so that rows of one distribution give an alarm with probability
`ALPHA` at most. The rows themselves are told apart by their hashes (`row_hashes`).
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

ALPHA = 0.01
DISTANCE = 0.05  # a smaller change is none, however certain
CATEGORIES = 10  # numbers with no more values than this are categories


def compare(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Return how far each column moved, those that drift first.

    `distance` is the largest difference between the shares that old and new rows have of any set
    of values (of any interval "at most x", for numbers), between 0 and 1; `p` how likely so large
    a one is by chance; `missing` and `unseen` are shares of the new rows; `drift` is the verdict.
    """
    found = pd.DataFrame([moved(old[name], new[name]) for name in old], index=[*old])
    tests = found[["p", "p_missing"]].count().sum()
    found[["p", "p_missing"]] = (found[["p", "p_missing"]] * tests).clip(upper=1)
    values = (found["p"] < ALPHA) & (found["distance"] >= DISTANCE)
    gaps = (found["missing"] - found["missing_before"]).abs()
    found["drift"] = values | (found["p_missing"] < ALPHA) & (gaps >= DISTANCE)
    return found.sort_values(["drift", "distance"], ascending=False)


def moved(old: pd.Series, new: pd.Series) -> dict:
    """Return what `compare` says of one column, before any correction."""
    was, now = old.dropna(), new.dropna()
    sort = kind(pd.concat([was, now]))
    found = {"kind": sort, "distance": 0.0, "p": np.nan, "unseen": np.nan}
    if sort == "category":
        found["unseen"] = float((~now.isin(was.unique())).sum() / len(new))
    if len(was) and len(now) and sort != "date":
        found["distance"], found["p"] = TESTS[sort](was, now)
    gaps = [len(old) - len(was), len(new) - len(now)]
    p = stats.fisher_exact([gaps, [len(was), len(now)]]).pvalue if any(gaps) else np.nan
    return found | {
        "missing_before": gaps[0] / len(old),
        "missing": gaps[1] / len(new),
        "p_missing": p,
    }


def kind(values: pd.Series) -> str:
    """Return what a column holds: number, category, text, or date, which moves by itself."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return "date"
    several = values.nunique() > CATEGORIES
    if pd.api.types.is_numeric_dtype(values) and values.dtype != bool:
        return "number" if several else "category"
    return "text" if several and values.nunique() > len(values) / 2 else "category"


def numbers(was: pd.Series, now: pd.Series) -> tuple[float, float]:
    """Return distance and p-value of the two-sample Kolmogorov-Smirnov test."""
    result = stats.ks_2samp(was, now)
    return float(result.statistic), float(result.pvalue)


def lengths(was: pd.Series, now: pd.Series) -> tuple[float, float]:
    """Return distance and p-value of the lengths of texts."""
    return numbers(was.astype(str).str.len(), now.astype(str).str.len())


def categories(was: pd.Series, now: pd.Series) -> tuple[float, float]:
    """Return total variation distance, and p-value of the chi-squared statistic.

    Categories of which fewer than 5 are expected on a side count as one (Cochran's rule), or with
    the next rarest, where they are too few together.
    """
    counts = pd.DataFrame({"was": was.value_counts(), "now": now.value_counts()}).fillna(0)
    distance = (counts["was"] / len(was) - counts["now"] / len(now)).abs().sum() / 2
    expected = counts.sum(axis=1) * min(len(was), len(now)) / (len(was) + len(now))
    rare = counts[expected < 5].sum().to_numpy()
    whole = counts[expected >= 5].to_numpy(copy=True)
    if expected[expected < 5].sum() >= 5:
        whole = np.vstack([whole, rare])
    elif len(whole):
        whole[whole.sum(axis=1).argmin()] += rare
    return float(distance), chance(whole.astype(int)) if len(whole) > 1 else 1.0


def chance(table: np.ndarray) -> float:
    """Return how likely so large a chi-squared statistic is, of a table of counts.

    A small p is that of tables drawn with the same sums (Monte Carlo): the approximation is too
    sure of small counts as far out as a correction for many tests looks.
    """
    p = stats.chi2_contingency(table, correction=False).pvalue
    if p < 0.05:
        batch, rng = 1 + 1_000_000 // table.size, np.random.default_rng(0)
        method = stats.MonteCarloMethod(n_resamples=99_999, batch=batch, rng=rng)
        p = stats.chi2_contingency(table, correction=False, method=method).pvalue
    return float(p)


TESTS = {"number": numbers, "text": lengths, "category": categories}


def draw(old: pd.DataFrame, new: pd.DataFrame, drift: pd.DataFrame) -> list[Figure]:
    """Return pictures: how far columns moved, and the values of the six that moved most."""
    top = drift.head(20)[::-1]
    bars = Figure(figsize=(8, 1 + len(top) / 4), layout="constrained")
    axis = bars.subplots()
    axis.barh(top.index, top["distance"], color=np.where(top["drift"], "tab:red", "tab:gray"))
    axis.set(xlim=(0, 1), xlabel="distance from the reference (red: drift)")
    most = drift[drift["kind"] != "date"].head(6)
    grid = Figure(figsize=(8, 5), layout="constrained")
    axes = grid.subplots(2, 3).flat
    for axis, (name, row) in zip(axes, most.iterrows(), strict=False):
        draw_column(axis, row["kind"], old[name].dropna(), new[name].dropna())
        axis.set_title(name, fontsize=9)
    for axis in [*axes][len(most) :]:
        axis.set_axis_off()
    grid.axes[0].legend(["reference", "now"], fontsize=8)
    return [bars, grid]


def draw_column(axis, sort: str, was: pd.Series, now: pd.Series) -> None:
    """Draw the shares that old and new rows have of each value, or of each interval."""
    if sort == "category":
        shares = [part.astype(str).value_counts(normalize=True) for part in (was, now)]
        both = pd.concat(shares, axis=1).fillna(0).iloc[:8]
        for place, heights in zip((-0.2, 0.2), both.to_numpy().T, strict=True):
            axis.bar(np.arange(len(both)) + place, heights, 0.4)
        axis.set_xticks(range(len(both)), [name[:12] for name in both.index], fontsize=7)
        return
    if sort == "text":
        was, now = was.astype(str).str.len(), now.astype(str).str.len()
        axis.set_xlabel("length", fontsize=8)
    edges = np.histogram_bin_edges(pd.concat([was, now]), 20)
    for part in (was, now):
        axis.hist(part, edges, weights=np.full(len(part), 1 / max(len(part), 1)), alpha=0.6)
