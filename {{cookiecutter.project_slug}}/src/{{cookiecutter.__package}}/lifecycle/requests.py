"""The log of served predictions: written by `serve`, read by `monitor`."""

import base64
import csv
import heapq
import io
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..config import ROOT

LOG = ROOT / "serving" / "predictions"  # and the port: two servers have two logs
CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"  # content types of a request
LOG_BYTES, LOG_FILES = 64 << 20, 16  # the log's files, and how many are kept


def prediction_log(port: int, tell: Callable[[str], None]) -> logging.Logger:
    """Return the log of what is served: a file in `serving/`, and older ones beside it.

    Why it cannot be written is told to `tell`.
    """
    file = LOG.with_name(f"{LOG.name}-{port}.jsonl")
    file.parent.mkdir(exist_ok=True, mode=0o700)
    log = logging.getLogger("predictions")
    log.setLevel(logging.INFO)
    log.propagate = False
    handler = RotatingFileHandler(file, "a", LOG_BYTES, LOG_FILES, "utf-8")
    handler.handleError = lambda record: tell(  # type: ignore[method-assign]
        f"the log cannot be written: {sys.exc_info()[1]}"
    )
    log.addHandler(handler)
    with file.open("rb") as kept:
        kept.seek(max(0, file.stat().st_size - 1))
        if kept.read() not in (b"", b"\n"):
            log.info("")  # ends a line that a crash has cut
    return log


def text_of(kind: str, body: bytes) -> str:
    """Return the body of a request as text; that of Parquet in base 64."""
    binary = kind.startswith(PARQUET)
    return (base64.b64encode(body) if binary else body).decode()


def rows_of(kind: str, given: str) -> list[dict]:
    """Return the rows of a request from what `text_of` makes of it; CSV's values are text."""
    if kind.startswith(CSV):
        return list(csv.DictReader(io.StringIO(given)))
    if kind.startswith(PARQUET):
        # Without threads: one that still holds Python's bytes when the process ends aborts it.
        file = pq.ParquetFile(pa.BufferReader(base64.b64decode(given)))
        return file.read(use_threads=False).to_pylist()
    data = json.loads(given)
    if split := data.get("dataframe_split"):
        return [dict(zip(split["columns"], row, strict=True)) for row in split["data"]]
    names = ("dataframe_records", "inputs", "instances")
    found = next(data[name] for name in names if name in data)
    if isinstance(found, dict):  # column by column, or the values of one row
        several = any(isinstance(values, list) for values in found.values())
        return pd.DataFrame(found, None if several else [0]).to_dict("records")
    return found


def records() -> Iterator[dict]:
    """Yield what the logs of all servers have, the newest prediction first."""
    logs: dict[str, list[tuple[int, Path]]] = {}
    for file in LOG.parent.glob(f"{LOG.name}*"):
        name, _, number = file.name.partition(".jsonl")
        age = number.lstrip(".")  # of a file that was rotated; the newest has none
        logs.setdefault(name, []).append((int(age) if age.isdecimal() else 0, file))
    streams = [_records(file for _, file in sorted(files)) for files in logs.values()]
    yield from heapq.merge(*streams, key=lambda record: str(record.get("time", "")), reverse=True)


def _records(files: Iterable[Path]) -> Iterator[dict]:
    """Yield the records of one server's files, which begin with the newest one."""
    for file in files:
        for line in reversed(file.read_text("utf-8", errors="replace").split("\n")):
            try:
                record = json.loads(line)
            except json.JSONDecodeError:  # the end of the file, or what a crash has cut
                continue
            if isinstance(record, dict):
                yield record
