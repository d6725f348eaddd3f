"""Progression of diabetes after a year, from ten measurements (shipped with scikit-learn)."""

import pandas as pd
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

TARGET = "target"


def load() -> pd.DataFrame:
    """Return 442 patients; sex is text here, as it would be in a user's table."""
    frame = load_diabetes(as_frame=True, scaled=False).frame
    return frame.assign(sex=frame["sex"].map({1: "f", 2: "m"}))


def split(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return training and held-out rows."""
    train, test = train_test_split(frame, test_size=0.3, random_state=0)
    return train, test
