"""The log of served predictions: written by `serve`, read by `monitor`."""

import base64
import heapq
import json
import logging
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

from ..config import ROOT
from .formats import PARQUET, rows_in

LOG = ROOT / "serving" / "predictions"  # and the port: two servers have two logs
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
    return (base64.b64encode(body) if binary(kind) else body).decode()


def rows_of(kind: str, given: str, names: list[str] | None = None) -> list[dict]:
    """Return the rows of a request from what `text_of` makes of it, as `serve` read them.

    `names` are the columns of the model. Raises `UserError` if they cannot be read.
    """
    body = base64.b64decode(given) if binary(kind) else given.encode()
    return rows_in(kind, body, names or []).to_dict("records")


def binary(kind: str) -> bool:
    """Return whether the body of a request of this content type is no text."""
    return kind.strip().lower().startswith(PARQUET)


def records() -> Iterator[dict]:
    """Yield what the logs of served predictions have, the newest first, whichever server wrote it.

    A record has `id`, `time` (ISO, UTC), `version`, `run_id`, `type` and `input` (for
    `rows_of`), and `output` (the answer).
    """
    logs: dict[str, list[Path]] = defaultdict(list)
    for file in LOG.parent.glob(f"{LOG.name}-*.jsonl*"):
        logs[file.name.partition(".jsonl")[0]].append(file)
    streams = (newest_first(sorted(files, key=age)) for files in logs.values())
    yield from heapq.merge(*streams, key=lambda record: record.get("time", ""), reverse=True)


def age(file: Path) -> int:
    """Return how many files of the same log are newer."""
    number = file.name.rpartition(".")[2]
    return int(number) if number.isdecimal() else 0


def newest_first(files: list[Path]) -> Iterator[dict]:
    """Yield the records of one log, whose newest file comes first."""
    for file in files:
        for line in reversed(file.read_text("utf-8", errors="replace").split("\n")):
            try:
                record = json.loads(line)
            except json.JSONDecodeError:  # the end of the file, or what a crash has cut
                continue
            if isinstance(record, dict):
                yield record
