"""Three kinds of wine, from thirteen measurements with gaps (shipped with scikit-learn)."""

import numpy as np
import pandas as pd
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

TARGET = "kind"


def load() -> pd.DataFrame:
    """Return 178 wines; every tenth alcohol is missing."""
    bunch = load_wine(as_frame=True)
    frame = bunch.data.rename(columns=lambda name: name.replace("/", "_"))
    frame.loc[::10, "alcohol"] = np.nan
    return frame.assign(**{TARGET: bunch.target})


def split(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return training and held-out rows."""
    train, test = train_test_split(frame, test_size=0.4, stratify=frame[TARGET], random_state=0)
    return train, test
