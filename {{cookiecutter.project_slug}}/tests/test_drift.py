"""Known shifts are found, samples of one distribution are not, whatever the kind of column."""

import numpy as np
import pandas as pd
import pytest

from {{ cookiecutter.__package }}.lifecycle import drift
from {{ cookiecutter.__package }}.lifecycle.drawings import draw
from {{ cookiecutter.__package }}.lifecycle.drift import ALPHA, categories, compare


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def words_of(rng, size, mean):
    """Return texts that often come twice, of about `mean` letters."""
    return [f"{'a' * length} {rng.integers(100)}" for length in rng.poisson(mean, size)]


def frame(rng, size, **changes):
    """Return rows of one distribution, but for the columns in `changes`."""
    columns = {
        "height": rng.normal(size=size),
        "count": rng.poisson(20, size),
        "color": rng.choice(["red", "green", "blue"], size, p=[0.6, 0.3, 0.1]),
        "rare": rng.choice(["yes", "no"], size, p=[0.004, 0.996]),
        "note": words_of(rng, size, 400),
        "gaps": np.where(rng.random(size) < 0.1, np.nan, rng.normal(size=size)),
        "flag": rng.random(size) < 0.5,
    }
    return pd.DataFrame(columns | changes)


def test_rows_of_one_distribution_do_not_drift(rng):
    for _ in range(3):
        found = compare(frame(rng, 3000), frame(rng, 800))
        assert not found["drift"].any(), found
        assert found["kind"].to_dict() == {
            "height": "number", "count": "number", "color": "category", "rare": "category",
            "note": "text", "gaps": "number", "flag": "category",
        }  # fmt: skip


def colors(rng, *shares):
    """Return the colors of 800 rows."""
    return rng.choice(["red", "green", "blue"], 800, p=shares)


def gaps(rng, share):
    """Return the numbers of 800 rows, of which a share is missing."""
    return np.where(rng.random(800) < share, np.nan, rng.normal(size=800))


def mauve(rng, share):
    """Return the colors of 800 rows, of which a share has one that is new."""
    return np.where(rng.random(800) < share, "mauve", colors(rng, 0.6, 0.3, 0.1))


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("height", lambda rng: rng.normal(0.5, size=800), "values"),
        ("color", lambda rng: colors(rng, 0.4, 0.5, 0.1), "values"),
        ("flag", lambda rng: rng.random(800) < 0.7, "values"),
        ("note", lambda rng: words_of(rng, 800, 380), "values"),
        ("rare", lambda rng: rng.choice(["yes", "no"], 800, p=[0.04, 0.96]), "values"),
        ("gaps", lambda rng: gaps(rng, 0.3), "missing"),
        ("height", lambda rng: gaps(rng, 0.02), "missing"),
        ("color", lambda rng: mauve(rng, 0.03), "unseen"),
    ],
)
def test_each_shift_is_found_and_nothing_else(rng, name, values, why):
    """Also of 2 to 4 % of the rows, where a share has changed threefold."""
    found = compare(frame(rng, 3000), frame(rng, 800, **{name: values(rng)}))
    assert found.index[found["drift"]].tolist() == [name]
    assert why in found.loc[name, "why"]


def test_gaps_alone_are_found_where_the_values_stay(rng):
    old, new = rng.normal(size=3000), rng.normal(size=800)
    new[:200] = np.nan
    found = compare(pd.DataFrame({"x": old}), pd.DataFrame({"x": new})).loc["x"]
    assert found["why"] == "missing" and found["p"] > ALPHA and found["missing"] == 0.25


def test_a_small_change_is_none_however_certain(rng):
    old, new = rng.normal(size=20_000), rng.normal(0.08, size=20_000)
    found = compare(pd.DataFrame({"x": old}), pd.DataFrame({"x": new})).loc["x"]
    assert found["p"] < ALPHA and found["distance"] < drift.DISTANCE and not found["drift"]


def test_p_values_are_corrected_for_the_number_of_columns(rng):
    """The best of 200 equal columns has a p-value of about 0.005 before the correction."""
    old, new = (pd.DataFrame(rng.normal(size=(size, 200))) for size in (400, 200))
    found = compare(old, new)
    assert not found["drift"].any() and found["p"].max() == 1
    alone = compare(old[[found["p"].idxmin()]], new[[found["p"].idxmin()]])
    assert alone["p"].iloc[0] < ALPHA


def test_one_column_of_three_thousand_can_alarm(rng):
    """The p-value of drawn tables alone would end at 0.00001, which is 0.03 of 3000 tests."""
    old, new = (pd.Series(rng.integers(0, 4, size)) for size in (1000, 300))
    moved = pd.Series(rng.choice(4, 300, p=[0.55, 0.15, 0.15, 0.15]))
    assert drift.moved(old, moved)["p"] * 3000 < ALPHA
    assert drift.moved(old, new)["p"] > ALPHA


@pytest.mark.parametrize(
    "table",
    [
        [[450, 15], [4500, 35]],  # 465 of 5000: about 5 expected among the 50
        [[2000, 45], [3000, 5]],
        [[1500, 350], [1500, 200], [1500, 250], [500, 200]],
    ],
)
def test_beyond_the_drawn_tables_probabilities_are_not_too_small(table):
    """With two categories the probability is known exactly."""
    from scipy import stats

    table = np.array(table)
    statistic = stats.chi2_contingency(table, correction=False)[0]
    parts = [drift.drawn(table, np.random.default_rng(n)) for n in range(10)]
    told = drift.beyond(table, statistic, np.concatenate(parts))
    assert 0 < told < 1e-4
    if len(table) == 2:
        both, (old, new) = table.sum(axis=1), table.sum(axis=0)
        counts = np.arange(new + 1)
        gap = abs(counts - both[0] * new / (old + new))
        extreme = gap >= gap[table[0, 1]] - 1e-9
        exact = stats.hypergeom.pmf(counts, both.sum(), both[0], new)[extreme].sum()
        assert exact / drift.CAUTION < told < 10 * exact


def test_rare_categories_give_no_alarm_and_a_common_one_that_moves_does(rng):
    """Of 300 pairs of samples from one distribution 1 % may differ; untreated, 12 % would."""

    def drawn(size, common=0.6):
        shares = [common, 0.995 - common, *[0.001] * 5]
        return pd.Series(rng.choice([*"abcdefg"], size, p=shares))

    same = [categories(drawn(5000), drawn(50))[1] for _ in range(300)]
    assert sum(p < ALPHA for p in same) <= 6
    distance, p, _ = categories(drawn(5000), drawn(1000, 0.4))
    assert 0.15 < distance < 0.25 and p <= 1e-5


def test_new_values_are_expected_where_many_values_occur_once(rng):
    """Customers of whom there are always new ones are no drift; as many new cities are."""
    customers = [f"c{number}" for number in rng.zipf(1.6, 3800) % 10**6]
    cities = rng.choice([f"city {n}" for n in range(50)], 3800)
    table = pd.DataFrame({"customer": customers, "city": cities})
    old, new = table[:3000], table[3000:].copy()
    found = compare(old, new)
    assert found.loc["customer", "unseen"] > 0.05 and not found["drift"].any()
    assert found.loc["customer", "p_unseen"] > ALPHA
    new.loc[new.index[::10], "city"] = "elsewhere"
    found = compare(old, new)
    assert "unseen" in found.loc["city", "why"] and found.loc["city", "unseen"] == 0.1


def test_identifiers_dates_and_lists_are_listed_and_not_tested(rng):
    old, new = range(500), range(1000, 1300)

    def made(numbers):
        return pd.DataFrame({
            "order": [f"A-{n}" for n in numbers],
            "number": [*numbers],
            "at": pd.to_datetime([*numbers], unit="D"),
            "vector": [[n, n] for n in numbers],
            "review": [f"it was {'very ' * (n % 7)}good, {n}" for n in numbers],
            "weight": rng.normal(size=len(numbers)),
        })  # fmt: skip

    found = compare(made(old), made(new))
    assert found["kind"].to_dict() == {
        "order": "identifier", "number": "identifier", "at": "date", "vector": "other",
        "review": "text", "weight": "number",
    }  # fmt: skip
    untested = found[found["kind"].isin(drift.UNTESTED)]
    assert untested["p"].isna().all() and not untested["drift"].any()
    longer = made(new).assign(review=lambda rows: rows["review"] + " " + rows["review"])
    assert compare(made(old), longer).loc["review", "drift"]


def test_columns_without_values_or_of_one_value_are_compared():
    old = pd.DataFrame({"none": [None] * 60, "one": [1.0] * 60, "now": [None] * 60})
    new = pd.DataFrame({"none": [None] * 60, "one": [1.0] * 60, "now": ["a"] * 60})
    found = compare(old, new)
    assert found.index[found["drift"]].tolist() == ["now"]
    assert found.loc["now", "why"] == "missing"


def test_pictures_are_drawn_of_every_kind_of_column(rng):
    old, new = frame(rng, 200), frame(rng, 100)
    for rows in (old, new):
        rows["at"] = pd.Timestamp("2026-01-01")
        rows["a $name\nwith a line"] = 1.0
        rows.loc[:20, "height"] = np.inf
    for picture in draw(old, new, compare(old, new)).values():
        picture.canvas.draw()
