"""Whether two sets of rows come from the same distribution, column by column.

Numbers are compared by the two-sample Kolmogorov-Smirnov test, categories by the chi-squared
statistic, text by its length, missing and unseen values by Fisher's exact test. Every p-value is
multiplied by the number of tests (Bonferroni), so that rows of one distribution give an alarm with
probability `ALPHA` at most.
"""

import math

import numpy as np
import pandas as pd
from scipy import stats

ALPHA = 0.01
DISTANCE = 0.05  # a smaller change is reported only where a share changed `TIMES`-fold
TIMES = 3.0
CATEGORIES = 10  # numbers with no more values than this are categories
UNTESTED = ("date", "identifier", "other")  # kinds whose values are not compared
BATCH, MOST, AS_EXTREME = 10_000, 100_000, 50  # drawn tables: at once, at most, and enough
# What a p-value beyond the drawn tables is multiplied by. Tables of 2 to 10 categories and 50 or
# 1000 rows had true probabilities of 0.5 to 5.4 times the extrapolated one, at 1e-5 and at 1e-6.
CAUTION = 10


def compare(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Return how far each column of `old` moved, drifting columns first.

    - `distance`: largest difference between the shares that old and new rows have of any set of
      values (for numbers: of any interval "at most x"), from 0 to 1;
    - `missing_before`, `missing`: shares of rows without a value;
    - `unseen`: share of new values that are not among the old ones, and `unseen_expected`: the
      share that is expected if nothing changed (Good-Turing: of old values that occur once);
    - `p`, `p_missing`, `p_unseen`: probability of a difference at least this large if nothing
      changed, corrected for the number of tests;
    - `drift`: the verdict, and `why`: what moved.
    """
    found = pd.DataFrame([moved(old[name], new[name]) for name in old], index=[*old])
    ps = ["p", "p_missing", "p_unseen"]
    found[ps] = (found[ps] * found[ps].count().sum()).clip(upper=1)
    before, after = found["missing_before"], found["missing"]
    expected, unseen = found["unseen_expected"], found["unseen"]
    sizes = {
        "values": (found["distance"], found["times"]),
        "missing": ((after - before).abs(), [*map(times, before, after)]),
        "unseen": ((unseen - expected).abs(), [*map(times, expected, unseen)]),
    }
    moves = {
        what: (found[p] < ALPHA) & ((size >= DISTANCE) | (np.array(fold) >= TIMES))
        for p, (what, (size, fold)) in zip(ps, sizes.items(), strict=True)
    }
    found["why"] = [
        ", ".join(what for what, here in zip(moves, row, strict=True) if here)
        for row in zip(*moves.values(), strict=True)
    ]
    found["drift"] = found["why"] != ""
    found["size"] = pd.concat([size for size, _ in sizes.values()], axis=1).max(axis=1)
    return found.sort_values(["drift", "size"], ascending=False)


def times(before: float, after: float) -> float:
    """Return how many times larger the larger of two shares is; 1 where there is none."""
    small, large = sorted((before, after))
    return 1.0 if not large > 0 else large / small if small else math.inf


def moved(old: pd.Series, new: pd.Series) -> dict:
    """Return what `compare` says of one column, before any correction."""
    was, now = old.dropna(), new.dropna()
    sort = kind(was if len(was) else now)
    found = {"kind": sort, "distance": 0.0, "p": np.nan, "times": 1.0}
    found |= {"unseen_expected": np.nan, "unseen": np.nan, "p_unseen": np.nan}
    if len(was) and len(now) and sort not in UNTESTED:
        found["distance"], found["p"], found["times"] = TESTS[sort](was, now)
        if sort == "category":
            found |= novelty(was, now)
    gaps = [len(old) - len(was), len(new) - len(now)]
    p = stats.fisher_exact([gaps, [len(was), len(now)]]).pvalue if any(gaps) else np.nan
    return found | {
        "missing_before": gaps[0] / len(old),
        "missing": gaps[1] / len(new),
        "p_missing": p,
    }


def kind(values: pd.Series) -> str:
    """Return what a column holds, judged by its `values` in the reference.

    `date` moves by itself. `identifier` is text of single words, or whole numbers, of which none
    comes twice. `other` has values that cannot be compared, as lists.
    """
    if pd.api.types.is_datetime64_any_dtype(values):
        return "date"
    try:
        count = values.nunique()
    except TypeError:
        return "other"
    several, numeric = count > CATEGORIES, pd.api.types.is_numeric_dtype(values)
    if several and count == len(values):
        whole = pd.api.types.is_integer_dtype(values)
        if whole or not numeric and words(values) < 2:
            return "identifier"
    if numeric and not pd.api.types.is_bool_dtype(values):
        return "number" if several else "category"
    return "text" if several and count > len(values) / 2 else "category"


def words(values: pd.Series) -> float:
    """Return the number of words of a typical text."""
    return float(values.astype(str).str.split().str.len().median())


def numbers(was: pd.Series, now: pd.Series) -> tuple[float, float, float]:
    """Return distance, p-value and fold change of the two-sample Kolmogorov-Smirnov test."""
    result = stats.ks_2samp(was, now)
    shares = [float((values <= result.statistic_location).mean()) for values in (was, now)]
    below, above = times(*shares), times(*(1 - share for share in shares))
    return float(result.statistic), float(result.pvalue), max(below, above)


def lengths(was: pd.Series, now: pd.Series) -> tuple[float, float, float]:
    """Return distance, p-value and fold change of the lengths of texts."""
    return numbers(was.astype(str).str.len(), now.astype(str).str.len())


def categories(was: pd.Series, now: pd.Series) -> tuple[float, float, float]:
    """Return total variation distance, p-value of the chi-squared statistic, and fold change.

    Categories of which fewer than 5 are expected on a side count as one (Cochran's rule), or with
    the next rarest, where they are too few together.
    """
    counts = pd.DataFrame({"was": was.value_counts(), "now": now.value_counts()}).fillna(0)
    distance = (counts["was"] / len(was) - counts["now"] / len(now)).abs().sum() / 2
    expected = counts.sum(axis=1) * min(len(was), len(now)) / (len(was) + len(now))
    rare = counts[expected < 5].sum().to_numpy()
    table = counts[expected >= 5].to_numpy(copy=True)
    if expected[expected < 5].sum() >= 5:
        table = np.vstack([table, rare])
    elif len(table):
        table[table.sum(axis=1).argmin()] += rare
    if len(table) < 2:
        return float(distance), 1.0, 1.0
    fold = max(times(*shares) for shares in table / table.sum(axis=0))
    return float(distance), chance(table.astype(int)), fold


def novelty(was: pd.Series, now: pd.Series) -> dict:
    """Return the share of new values that are unseen, the expected one, and a p-value.

    If nothing changed, the next value is unseen with about the probability that an old value
    occurs once (Good-Turing).
    """
    once = int((was.value_counts() == 1).sum())
    unseen = int((~now.isin(was.unique())).sum())
    table = [[unseen, len(now) - unseen], [once, len(was) - once]]
    p = stats.fisher_exact(table, alternative="greater").pvalue if once + unseen else np.nan
    return {"unseen_expected": once / len(was), "unseen": unseen / len(now), "p_unseen": p}


def chance(table: np.ndarray) -> float:
    """Return the p-value of the chi-squared statistic of a table of counts, categories by 2.

    A small one is that of tables drawn with the same sums: the approximation is too sure of small
    counts as far out as a correction for many tests looks. Beyond the drawn tables it is
    extrapolated.
    """
    statistic, p = stats.chi2_contingency(table, correction=False)[:2]
    if p >= 0.05:
        return float(p)
    rng, extreme = np.random.default_rng(0), 0
    parts: list[np.ndarray] = []
    while len(parts) * BATCH < MOST and extreme < AS_EXTREME:
        parts.append(drawn(table, rng))
        extreme += int(np.sum(parts[-1] >= statistic * (1 - 1e-9)))
    if extreme:
        return (extreme + 1) / (len(parts) * BATCH + 1)
    return min(1 / MOST, CAUTION * beyond(table, statistic, np.concatenate(parts)))


def drawn(table: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the chi-squared statistics of `BATCH` tables drawn with the sums of `table`."""
    both, (old, new) = table.sum(axis=1), table.sum(axis=0)
    counts = rng.multivariate_hypergeometric(both, min(old, new), BATCH, method="marginals")
    gaps = counts - both * (min(old, new) / (old + new))
    return (gaps**2 / both).sum(axis=1) * (old + new) ** 2 / (old * new)


def beyond(table: np.ndarray, statistic: float, statistics: np.ndarray) -> float:
    """Return about how likely a `statistic` is that none of the drawn `statistics` reaches.

    The larger of two: the tail of a gamma distribution with their mean and variance, and the
    exact probability that one category alone deviates as much, which decides for rare categories.
    """
    scale = statistics.var() / statistics.mean()
    bulk = stats.gamma.sf(statistic, statistics.mean() / scale, scale=scale)
    both, (old, new) = table.sum(axis=1), table.sum(axis=0)
    expected, total = both * min(old, new) / (old + new), old + new
    gap = np.sqrt(statistic * old * new / total**2 / (1 / both + 1 / (total - both))) - 1e-9
    few = stats.hypergeom.cdf(np.floor(expected - gap), total, both, min(old, new))
    many = stats.hypergeom.sf(np.ceil(expected + gap) - 1, total, both, min(old, new))
    return float(max(bulk, (few + many).sum()))


TESTS = {"number": numbers, "text": lengths, "category": categories}
