"""The pictures of a report: how far columns moved, and how their values did."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .drift import DISTANCE, UNTESTED

BEFORE, NOW, ALARM, CALM = "#9aa5b1", "#2f6fde", "#c9372c", "#9aa5b1"
COLUMNS, VALUES = 15, 6  # columns in the picture of distances, and in that of values
BINS, BARS = 24, 8


def draw(old: pd.DataFrame, new: pd.DataFrame, drift: pd.DataFrame) -> dict[str, Figure]:
    """Return the pictures of a report by title; `drift` is what `compare` returns."""
    return {
        "How far each column moved": draw_distances(drift),
        "Values of the columns that moved most": draw_values(old, new, drift),
    }


def draw_distances(drift: pd.DataFrame) -> Figure:
    """Return a picture of the columns that moved most, those that drift in red."""
    top = drift[~drift["kind"].isin(UNTESTED) | drift["drift"]].head(COLUMNS)[::-1]
    figure = Figure(figsize=(9, 0.9 + 0.3 * len(top)), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(top))
    axis.barh(places, top["size"], 0.7, color=np.where(top["drift"], ALARM, CALM))
    for place, size, why in zip(places, top["size"], top["why"], strict=True):
        told = f" {size:.2f}{f'  {why}' if why else ''}"
        axis.text(size, float(place), told, va="center", fontsize=8, color="#333333")
    axis.axvline(DISTANCE, color="#333333", linewidth=0.8, linestyle=":")
    axis.set_yticks(places, [short(name, 32) for name in top.index], fontsize=9)
    most = max(0.2, top["size"].max() if len(top) else 0)
    axis.set_xlim(0, 1.25 * most)  # with room for the words
    axis.set_xticks([tick for tick in axis.get_xticks() if tick <= max(most, 0.2)])
    axis.set_xlabel(
        f"difference between the shares of reference and new rows (dotted: {DISTANCE})", fontsize=8
    )
    plain(axis)
    return figure


def draw_values(old: pd.DataFrame, new: pd.DataFrame, drift: pd.DataFrame) -> Figure:
    """Return a picture of old and new values of the columns that moved most."""
    most = drift[~drift["kind"].isin(UNTESTED)].head(VALUES)
    lines = max(1, -(-len(most) // 3))
    figure = Figure(figsize=(9, 0.4 + 2.3 * lines), layout="constrained")
    axes = [*figure.subplots(lines, 3, squeeze=False).flat]
    for (name, row), axis in zip(most.iterrows(), axes, strict=False):
        draw_column(axis, row["kind"], old[name].dropna(), new[name].dropna())
        color = ALARM if row["drift"] else "#333333"
        axis.set_title(short(name, 30), fontsize=9, color=color)
        axis.tick_params(labelsize=7)
        plain(axis)
    for axis in axes[len(most) :]:
        axis.set_axis_off()
    handles = axes[0].get_legend_handles_labels()
    if len(most):
        figure.legend(*handles, loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    return figure


def draw_column(axis, sort: str, was: pd.Series, now: pd.Series) -> None:
    """Draw the shares of old and new rows that have each value, or a value of each interval."""
    parts = {"reference": (was, BEFORE), "new rows": (now, NOW)}
    if sort == "category":
        shares = [part.astype(str).value_counts(normalize=True) for part in (was, now)]
        both = pd.concat(shares, axis=1).fillna(0)
        both = both.loc[both.max(axis=1).sort_values(ascending=False).index].iloc[:BARS]
        for (name, (_, color)), place, heights in zip(
            parts.items(), (-0.2, 0.2), both.to_numpy().T, strict=True
        ):
            axis.bar(np.arange(len(both)) + place, heights, 0.4, color=color, label=name)
        axis.set_xticks(range(len(both)), [short(name, 10) for name in both.index])
        return
    if sort == "text":
        parts = {name: (part.astype(str).str.len(), color) for name, (part, color) in parts.items()}
        axis.set_xlabel("characters", fontsize=7)
    whole = pd.concat([part for part, _ in parts.values()]).astype(float)
    whole = whole[np.isfinite(whole)]
    if whole.empty:
        return
    edges = np.histogram_bin_edges(whole, BINS, tuple(whole.quantile([0.002, 0.998])))
    for name, (part, color) in parts.items():
        inside = part.astype(float).clip(edges[0], edges[-1])
        weights = np.full(len(part), 1 / max(len(part), 1))
        axis.hist(inside, edges, weights=weights, alpha=0.6, color=color, label=name)


def short(name: object, most: int) -> str:
    """Return a name in one line of at most `most` characters, as Matplotlib shows it."""
    text = " ".join(str(name).split()).replace("$", r"\$")
    return text if len(text) <= most else f"{text[: most - 1].rstrip(chr(92))}…"


def plain(axis) -> None:
    """Leave out what a picture does not need."""
    axis.spines[["top", "right"]].set_visible(False)
