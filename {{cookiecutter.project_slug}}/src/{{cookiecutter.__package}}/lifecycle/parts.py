"""The rows of a run by part: training and held-out ones, of `load` and of labelled batches."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from mlflow.types import ColSpec, DataType

from .. import data, model
from .batches import SIDES, Batch, Labelled, labelled
from .contract import check_apart, check_frame, check_split, check_target
from .rows import Inputs, fitting, row_hashes
from .schema import schema_of
from .values import described

SOURCE = "data.py: load()"


@dataclass(frozen=True)
class Rows:
    """The rows of a run.

    `training` and `held_out` are as `load` returned them; `labelled` has those of batches, in the
    types that the model takes. `hashes` are of all rows by part, those of `load` first.
    """

    training: pd.DataFrame
    held_out: pd.DataFrame
    labelled: Labelled
    inputs: Inputs
    target: Inputs
    hashes: dict[str, np.ndarray]

    def columns(self) -> list[str]:
        """Return the names of the features, in the order of `load`."""
        return self.inputs.input_names()

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each part."""
        return {part: len(hashes) for part, hashes in self.hashes.items()}

    def digests(self) -> dict[str, str]:
        """Return a hash of all rows of each part, in their order, and of the columns' names."""
        names = repr(sorted([*self.columns(), data.TARGET])).encode()
        return {
            part: hashlib.sha256(names + hashes.tobytes()).hexdigest()[:32]
            for part, hashes in self.hashes.items()
        }

    def read(self, rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
        """Return features and target of rows of `load`, as the reader of all commands does."""
        rows = rows.reset_index(drop=True)
        y = fitting(rows, self.target, SOURCE)[data.TARGET]
        return fitting(rows, self.inputs, SOURCE), y

    def part(self, name: str) -> tuple[pd.DataFrame, pd.Series]:
        """Return features and target of all rows of a part: those of `load`, then labelled ones."""
        X, y = self.read(getattr(self, name))
        more = self.labelled.sides[name]
        if more.empty:
            return X, y
        return (
            pd.concat([X, more[self.columns()]], ignore_index=True),
            pd.concat([y, more[data.TARGET]], ignore_index=True),
        )

    def with_categories(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return the training features `X` with pandas' type `category` where `load` has it.

        Some models look at this type when they are fitted. Files and requests do not have it, so a
        fitted model is asked without.
        """
        names = [name for name in X if isinstance(self.training[name].dtype, pd.CategoricalDtype)]
        return X.astype({name: "category" for name in names})


def rows_of(frame, batches: list[Batch]) -> Rows:
    """Return the rows of `load`, split and described, and those of labelled `batches`.

    Raises `UserError` if a later command cannot use the frame.
    """
    check_frame(frame)
    inputs, target = columns_of(frame)
    training, held_out = check_split(frame)
    check_target({"training": training, "held-out": held_out}, target)
    own = {"training": training, "held_out": held_out}
    more = labelled(batches, inputs, target, own)
    columns = sorted(frame)
    hashes = {part: row_hashes(own[part], columns) for part in SIDES}
    check_apart(hashes["training"], hashes["held_out"], frame)
    if more.runs:
        both = ([hashes[part], row_hashes(more.sides[part], columns)] for part in SIDES)
        hashes = {part: np.concatenate(pair) for part, pair in zip(SIDES, both, strict=True)}
    return Rows(training, held_out, more, inputs, target, hashes)


def columns_of(frame: pd.DataFrame) -> tuple[Inputs, Inputs]:
    """Return features and target of `load` as a signature has them; all rows decide their types.

    The whole numbers of a regressor's target are doubles: a later label may be none.
    """
    features, target = frame.drop(columns=data.TARGET), frame[[data.TARGET]]
    inputs, wanted = (Inputs(schema_of(part), described(part)) for part in (features, target))
    if model.TASK == "regressor" and wanted.inputs[0].type == DataType.long:
        wanted = Inputs([ColSpec(DataType.double, data.TARGET)], wanted.notes)
    return inputs, wanted
