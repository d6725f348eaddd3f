"""Which library a docstring is from: real text, which every environment of a project has."""

import inspect

import matplotlib.axes
import numpy
import pandas
import scipy.stats
from sklearn.model_selection import train_test_split

TARGET = "library"
SOURCES = {
    "numpy": numpy,
    "pandas": pandas.DataFrame,
    "matplotlib": matplotlib.axes.Axes,
    "scipy": scipy.stats,
}


def load() -> pandas.DataFrame:
    """Return the second paragraph on of each docstring, up to 400 letters, without its library."""
    rows = [
        (" ".join(doc.split("\n\n", 1)[1].split())[:400].replace(name, ""), name)
        for name, source in SOURCES.items()
        for member in sorted({*dir(source)})
        if not member.startswith("_")
        and "\n\n" in (doc := inspect.getdoc(getattr(source, member)) or "")
    ]
    return pandas.DataFrame(rows, columns=["text", TARGET]).drop_duplicates("text")


def split(frame: pandas.DataFrame) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Return training and held-out rows."""
    train, test = train_test_split(frame, test_size=0.3, stratify=frame[TARGET], random_state=0)
    return train, test
