"""Where work runs: processes of this machine, or the workers of a Dask cluster.

Both take tasks while a slot is free, and return each with its result. A task is a function of the
module that defines it, called with what all tasks share and with arguments of its own.
"""

import logging
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from ..config import MODEL, UserError
from ..ops.shell import install_extra, one_line

ANSWER_SECONDS = 10  # for the scheduler of a cluster
WAIT_SECONDS = 30  # for its first worker
GONE = "The scheduler of the cluster is gone"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # of a process: one

_shared: Any = None  # in a process of this machine: what all tasks share


class Gone(UserError):
    """The cluster went away while tasks were running."""


class Outcome(NamedTuple):
    """What became of a task: its key, and its result or the error that it raised."""

    key: Any
    value: Any
    error: BaseException | None


class Call(NamedTuple):
    """A task that runs: its key, its function and arguments, and how often it was begun."""

    key: Any
    function: Callable
    args: tuple
    begun: int = 1


class Workers:
    """Slots for tasks. `start` a task while there are `idle` slots, and `wait` for those done."""

    def __init__(self) -> None:
        self._running: dict[futures.Future, Call] = {}

    def slots(self) -> int:
        """Return how many tasks run at once."""
        raise NotImplementedError

    def idle(self) -> int:
        """Return how many tasks can be started now."""
        return self.slots() - len(self._running)

    def running(self) -> int:
        """Return how many tasks run."""
        return len(self._running)

    def start(self, key: Any, function: Callable, *args) -> None:
        """Start a task, which `wait` returns under its key."""
        self._begin(Call(key, function, args))

    def wait(self, seconds: float = 1.0) -> list[Outcome]:
        """Return the tasks that ended, after at most some seconds."""
        done, _ = futures.wait(self._running, seconds, futures.FIRST_COMPLETED)
        found = [self._outcome(future, self._running.pop(future)) for future in done]
        return [one for one in found if one]

    def _begin(self, call: Call) -> None:
        self._running[self._submit(call)] = call

    def _submit(self, call: Call) -> futures.Future:
        raise NotImplementedError

    def _outcome(self, future: futures.Future, call: Call) -> Outcome | None:
        if future.cancelled():
            return Outcome(call.key, None, futures.CancelledError())
        error = future.exception()
        return Outcome(call.key, None if error else future.result(), error)


class Local(Workers):
    """Processes of this machine, one for each slot, so that one that dies costs its task alone."""

    def __init__(self, jobs: int, shared: Any) -> None:
        super().__init__()
        self._shared = shared
        self._pools = [self._pool() for _ in range(jobs)]
        self._of: dict[futures.Future, int] = {}

    def _pool(self) -> futures.ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        pool = futures.ProcessPoolExecutor(1, context, _prepare)
        # As the first task, not as the initializer's: processes would start one after another.
        with _without_interrupts():
            pool.submit(_keep, self._shared)
        return pool

    def slots(self) -> int:
        """Return the number of processes."""
        return len(self._pools)

    def _submit(self, call: Call) -> futures.Future:
        place = min({*range(len(self._pools))} - {*self._of.values()})
        future = self._pools[place].submit(_call, call.function, call.args)
        self._of[future] = place
        return future

    def _outcome(self, future: futures.Future, call: Call) -> Outcome | None:
        place = self._of.pop(future)
        if not isinstance(future.exception(), BrokenProcessPool):
            return super()._outcome(future, call)
        self._pools[place] = self._pool()
        if call.begun == 1:  # once more: something else may have ended the process
            self._begin(call._replace(begun=2))
            return None
        return super()._outcome(future, call)

    def close(self) -> None:
        """End the processes, also those that work."""
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()


class Cluster(Workers):
    """The workers of a Dask cluster, which come and go. A lost one's task is done by another."""

    def __init__(self, client: Any, shared: Any) -> None:
        super().__init__()
        self._client = client
        self._executor = client.get_executor(pure=False)  # else two equal calls are one task
        # The result of a task is made again when the workers that hold it die; what is scattered
        # would be lost with them.
        self._shared = client.submit(_itself, shared, pure=False)

    def slots(self) -> int:
        """Return the number of the workers' threads."""
        try:
            return sum(self._client.nthreads().values())
        except (OSError, TimeoutError) as error:
            raise Gone(GONE) from error

    def _submit(self, call: Call) -> futures.Future:
        return self._executor.submit(call.function, self._shared, *call.args)

    def wait(self, seconds: float = 1.0) -> list[Outcome]:
        """Return the tasks that ended; raise `Gone` if the scheduler does not answer any more."""
        found = super().wait(seconds)
        if self._client.status != "running" or any(_is_lost(one.error) for one in found):
            raise Gone(GONE)
        return found


def _is_lost(error: BaseException | None) -> bool:
    """Return whether a task ended because its scheduler is gone."""
    return isinstance(error, futures.CancelledError) or type(error).__name__ in (
        "FutureCancelledError",
        "CommClosedError",
    )


def _itself(shared: Any) -> Any:
    return shared


def _prepare() -> None:
    """Begin a process: it leaves Ctrl-C to its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _keep(shared: Any) -> None:
    global _shared
    _shared = shared


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold back Ctrl-C, so that a process that is started here does not get it while it begins."""
    if os.name == "nt":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _call(function: Callable, args: tuple) -> Any:
    return function(_shared, *args)


@contextmanager
def workers(jobs: int, address: str, shared: Any) -> Iterator[Workers]:
    """Yield `jobs` processes of this machine, or the workers of the cluster at an `address`.

    `shared` is the first argument of every task. Raises `UserError` if the cluster cannot be used.
    """
    if address:
        with _connected(address) as client:
            yield Cluster(client, shared)
        return
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ |= dict.fromkeys(THREADS, "1")  # inherited, and read when NumPy is imported
    local = Local(jobs, shared)
    try:
        yield local
    finally:
        local.close()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Yield a client of a cluster whose workers have this project and the same packages."""
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError(f"--cluster needs Dask: type {install_extra('cluster')}") from error
    try:
        client = Client(address, timeout=f"{ANSWER_SECONDS} s", set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(f"There is no Dask scheduler at {address}: start one first.") from error
    for name in ("distributed", "distributed.client"):  # tracebacks of a lost scheduler
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "Sending large graph")  # once, and it has to go there
    with client:
        try:
            client.wait_for_workers(1, timeout=WAIT_SECONDS)
        except TimeoutError as error:
            raise UserError(
                f"The cluster at {address} has no worker after {WAIT_SECONDS} s: start one in this "
                f"project's environment with: dask worker {address}"
            ) from error
        _check(client, address)
        yield client


def _check(client: Any, address: str) -> None:
    """Raise `UserError` if scheduler or workers lack this project, or have other packages."""
    try:
        client.run_on_scheduler(version, MODEL)
        client.run(version, MODEL)
    except PackageNotFoundError as error:
        raise UserError(
            f"The scheduler or a worker of {address} runs in another environment, without {MODEL}: "
            "start them in this project's environment."
        ) from error
    try:
        client.get_versions(check=True)
    except ValueError as error:
        raise UserError(
            f"The cluster at {address} has other versions of packages than this environment: "
            f"{one_line(error)}"
        ) from error
