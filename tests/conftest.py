"""What the tests share: a clean environment, real projects made once, and their running servers."""

import contextlib
import importlib.util
import os
import queue
import random
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import tomllib
import uuid
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]
REQUIRE_ALL = os.environ.get("REQUIRE_ALL") == "1"
# What takes longer hangs, on a machine however loaded. It is more than the 300 s that start-server
# waits for its server, so that what a command says itself comes first.
HANG_SECONDS = 600
INSTALL_SECONDS = 1800
ODD_FOLDER = 'it\'s #1 "ñandú" $HOME `id` 🚀 ' + "x" * 120
ODD_TEXTS = {
    "project_name": 'Señor "Bob\'s" \\ 100% #1 🚀 אבג',
    "description": 'Says "no" to C:\\new,\nאבג and {braces}; \'\'\' """ // */ -->',
    "author_name": 'José "Pepe" \\o/ <jose@example.org>',
}
# In the environment of every process that a test starts, so that none is left behind unseen.
MARK = f"started-by-test-{uuid.uuid4().hex}"
# Where `nohup` or a script's & has these ignored, the tests' children would ignore them too, and no
# Ctrl-C would end them. Unlike that, a handler is not inherited; this one ignores as before.
for name in {"SIGINT", "SIGHUP"} & set(dir(signal)):
    if signal.getsignal(getattr(signal, name)) == signal.SIG_IGN:
        signal.signal(getattr(signal, name), lambda *_: None)
# The longest first, so that the workers end together.
LONGEST = (
    "server", "history", "hands_on", "cluster", "life", "story", "team", "places", "own_models",
    "updates", "train", "hook",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    order = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.module.__name__, len(LONGEST)))


def pytest_addoption(parser):
    parser.addoption("--pictures", help="folder to write screenshots of the real UI to")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Turn every skip into a failure where the run has to be whole."""
    report = (yield).get_result()
    if REQUIRE_ALL and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, but REQUIRE_ALL=1: {report.longrepr}"


@pytest.fixture(scope="session")
def environ(tmp_path_factory):
    """Return an environment with a home of its own, without what this machine's user has set."""
    foreign = ("MLFLOW_", "VIRTUAL_ENV", "CONDA", "COOKIECUTTER", "XDG_", "UV", "PYTHON", "GIT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    home = tmp_path_factory.mktemp("home")
    # What is downloaded is downloaded once, whichever worker (a folder below pytest's) wants it.
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "downloads"
    shared.mkdir(exist_ok=True)
    (home / ".cache").symlink_to(shared, target_is_directory=True)
    (home / ".gitconfig").write_text("[user]\nname = Ada\nemail = ada@example.org\n")
    # The tests' own Python and uv have no place on a user's PATH.
    tools = str(Path(sys.executable).parent)
    path = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if p != tools)
    own = {"HOME": str(home), "USERPROFILE": str(home), "PATH": path, "MARK": MARK}
    # Workers share two cores, on which BLAS's threads would wait for each other. pip need not
    # compile (a falsy value says so): Python compiles what is imported, a tenth of it.
    lean = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PIP_NO_COMPILE": "0"}
    return kept | own | lean


@pytest.fixture(scope="session", autouse=True)
def no_stray_history(tmp_path_factory):
    """Fail when anything made a store or artifacts where MLflow puts them by default."""
    yield
    found = []
    for folder, folders, _ in os.walk(tmp_path_factory.getbasetemp()):
        found += [f"{folder}/{name}" for name in folders if name in ("mlruns", "mlartifacts")]
        folders[:] = [name for name in folders if name not in (".venv", ".cache", "home0", "env")]
    assert not found


@pytest.fixture(scope="session", autouse=True)
def no_process_left_behind():
    yield
    left = [process for process in psutil.process_iter() if _marked(process)]
    _, alive = psutil.wait_procs(left, timeout=HANG_SECONDS)
    told = [(process.pid, process.cmdline()) for process in alive]
    for process in alive:
        process.kill()
    assert not told


def _marked(process):
    try:
        return process.environ().get("MARK") == MARK
    except psutil.Error:
        return False


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """Return a copy of the template as a clone of it would be, uncommitted changes included."""
    target = tmp_path_factory.mktemp("clone") / "mlflow-local-template"
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


@pytest.fixture(scope="session")
def cookiecutter(environ, checkout):
    """Return a function that runs the real `cookiecutter` command on the template."""

    def generate(output_dir, *words, env=None, **kwargs):
        command = [sys.executable, "-m", "cookiecutter", str(checkout), "-o", str(output_dir)]
        return subprocess.run(
            [*command, *words],
            env=environ | (env or {}),
            capture_output=True,
            encoding="utf-8",
            timeout=INSTALL_SECONDS,
            **kwargs,
        )

    return generate


@pytest.fixture
def path_of(tmp_path, environ):
    """Return a function that makes a PATH of this system's folders and the given stub programs."""

    def make(**stubs):
        folder = tmp_path / "stubs"
        folder.mkdir(exist_ok=True)
        for name, script in stubs.items():
            (folder / name).write_text(f"#!/bin/bash\n{script}\n")
            (folder / name).chmod(0o755)
        return {"PATH": f"{folder}:/usr/bin:/bin"}

    return make


def fences(readme):
    """Return the command blocks of a README, in order."""
    return re.findall(
        r"^```bash\n(.*?)^```", readme.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def _ports():
    """Yield ports that nobody else is given: each worker has a share below the system's own.

    In no order, as another run of the suite on this machine may take from the same ones.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    yield from random.sample(range(20_000 + 2000 * worker, 22_000 + 2000 * worker), 2000)


PORTS = _ports()


def free_port():
    for port in PORTS:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("no port is left")


class Project:
    """A generated project: what is in it, and what a user does with it."""

    def __init__(self, path, environ, said=""):
        self.path, self.environ, self.said = Path(path), environ, said
        self.slug = tomllib.loads(self.read("pyproject.toml"))["project"]["name"]
        self.fences = fences(self.path / "README.md")
        self.install, self.start, self.train = self.fences[:3]
        self.package = self.slug.replace("-", "_")
        self.port = int(re.search(r"^MLFLOW_PORT=(\d+)", self.read("mlflow.env"), re.MULTILINE)[1])
        self.uri = f"http://127.0.0.1:{self.port}"

    def read(self, name):
        return (self.path / name).read_text(encoding="utf-8")

    @property
    def bin(self):
        """Return the folder of the environment's commands, as typed in a shell."""
        return shlex.quote(str(self.path / ".venv" / "bin"))

    def script(self, name):
        """Return the full path of a command of the environment, as typed in a shell."""
        return f"{self.bin}/{name}"

    def run(self, command, timeout=HANG_SECONDS, **env):
        """Run `command` as typed into a shell that stands in the project."""
        return subprocess.run(
            ["bash", "-c", str(command)],
            cwd=self.path,
            env=self.environ | env,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
        )

    def python(self, code, **env):
        """Run Python `code` in the project's environment; return what it prints."""
        done = subprocess.run(
            [self.path / ".venv" / "bin" / "python", "-c", code],
            cwd=self.path,
            env=self.environ | {"MLFLOW_TRACKING_URI": self.uri} | env,
            capture_output=True,
            encoding="utf-8",
            timeout=HANG_SECONDS,
        )
        assert not done.returncode, done.stderr
        return done.stdout.strip()

    def copy(self, folder):
        """Return a copy of the whole project, environment included, at `folder`."""
        return Project(shutil.copytree(self.path, folder, symlinks=True), self.environ)

    @contextmanager
    def settings(self, **changes):
        """Write other values into `mlflow.env` while a block runs."""
        kept = written = self.read("mlflow.env")
        for name, value in changes.items():
            written = re.sub(rf"(?m)^{name}=.*$", f"{name}={value}", written)
        (self.path / "mlflow.env").write_text(written, encoding="utf-8")
        try:
            yield
        finally:
            (self.path / "mlflow.env").write_text(kept, encoding="utf-8")

    def history(self):
        """Return the names of all files of the history, and how many rows it has of what."""
        tracking = self.path / "tracking"
        names = sorted(str(file.relative_to(tracking)) for file in tracking.rglob("*"))
        names = [name for name in names if name not in ("mlflow.db.lock", "mlflow.db.owner")]
        database = tracking / "mlflow.db"
        if not database.exists():
            return names, {}
        tables = ("experiments", "runs", "metrics", "model_versions", "alembic_version")
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as file:
            count = "SELECT count(*) FROM"
            return names, {name: file.execute(f"{count} {name}").fetchone()[0] for name in tables}


class Running:
    """A command in a terminal of its own, whose lines can be waited for."""

    def __init__(self, command, cwd, env):
        self.lines, self.seen = queue.Queue(), []
        self.process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",  # a test may ask for another encoding
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def expect(self, text):
        """Return the next line that holds `text`; fail when the output ends or time runs out."""
        deadline = time.monotonic() + HANG_SECONDS
        while True:
            line = None
            with contextlib.suppress(queue.Empty):
                line = self.lines.get(timeout=max(0.01, deadline - time.monotonic()))
            assert line is not None, f"{text!r} never came:\n{''.join(self.seen)}"
            self.seen.append(line)
            if text in line:
                return line

    def children(self):
        return psutil.Process(self.process.pid).children(recursive=True)

    def press_ctrl_c(self):
        """Do as a terminal does: the signal goes to every process in the foreground."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self, how=signal.SIGTERM):
        """End the command, and assert that every process it started has gone too."""
        if self.process.poll() is None:
            family = self.children()
            self.press_ctrl_c() if how == signal.SIGINT else self.process.send_signal(how)
            self.process.wait(HANG_SECONDS)
            assert_gone(family)
        return self.process.returncode


def assert_gone(processes):
    """Assert that all `processes` end."""
    assert not psutil.wait_procs(processes, timeout=HANG_SECONDS)[1]


def wait_until(condition):
    """Return once `condition()` holds."""
    deadline = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def running(environ):
    """Return a function that starts a command and ends it after the test."""
    started = []

    def start(command, cwd, **env):
        started.append(Running(command, cwd, environ | env))
        return started[-1]

    yield start
    for command in started:
        command.end()


def share_bytecode(project):
    """Put what Python compiled of a project's packages where uv links the next environment from.

    Compiling MLflow anew takes most of an installation's time. The server's part is left out: that
    an installation compiles it is tested.
    """
    cache = Path(project.environ["HOME"], ".cache", "uv", "archive-v0")
    sources = {file.stat().st_ino: file for file in cache.rglob("*.py")}
    for compiled in project.path.glob(".venv/lib/*/site-packages/**/*.cpython-3??.pyc"):
        source = Path(importlib.util.source_from_cache(compiled))
        kept = source.is_file() and sources.get(source.stat().st_ino)
        if kept and not kept.match("mlflow/server/*"):
            shared = kept.parent / "__pycache__" / compiled.name
            shared.parent.mkdir(exist_ok=True)
            with contextlib.suppress(FileExistsError):
                shared.hardlink_to(compiled)


@pytest.fixture(scope="session")
def uv_project(checkout, environ, tmp_path_factory):
    """Return the project of a stranger with a bare machine who types README's first command."""
    bare = tmp_path_factory.mktemp("bare") / "python"
    subprocess.run([sys.executable, "-m", "venv", bare], check=True)
    path = f"{bare / 'bin'}{os.pathsep}{environ['PATH']}"
    command = next(line for line in fences(checkout / "README.md") if "uvx cookiecutter ." in line)
    answers = f"\n\n\n\n\n\n{free_port()}\n\n"  # all but the port as it is
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=checkout,
        env=environ | {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        input=answers,
        capture_output=True,
        encoding="utf-8",
        timeout=INSTALL_SECONDS,
    )
    assert not done.returncode, done.stdout + done.stderr
    project = Project(checkout.parent / "my-ml-project", environ | {"PATH": path}, done.stdout)
    # Now, before any other test starts a server.
    project.compiled = list(project.path.glob(".venv/lib/*/site-packages/mlflow/**/*.pyc"))
    share_bytecode(project)
    return project


@pytest.fixture(scope="session")
def venv_project(cookiecutter, environ, tmp_path_factory):
    """Return a project with venv and pip, in Spanish, in a folder that is hard on scripts."""
    output = tmp_path_factory.mktemp("venv") / "it's #1 ñandú"
    answers = [
        "project_name=Ca va",
        "environment=venv",
        "language=es",
        f"mlflow_port={free_port()}",
    ]
    done = cookiecutter(output, "--no-input", *answers, env={"MLFLOW_TEMPLATE_STRICT": "1"})
    assert not done.returncode, done.stdout + done.stderr
    return Project(output / "ca-va", environ, done.stdout)


@pytest.fixture(scope="session")
def odd_project(cookiecutter, environ, uv_project, tmp_path_factory):
    """Return a project whose every text and whose place are as hard as a person can make them."""
    output = tmp_path_factory.mktemp("odd") / ODD_FOLDER
    answers = [f"{name}={text}" for name, text in ODD_TEXTS.items()]
    answers += [f"mlflow_port={free_port()}", "project_slug=odd"]
    env = {"MLFLOW_TEMPLATE_STRICT": "1", "PATH": uv_project.environ["PATH"]}
    done = cookiecutter(output, "--no-input", *answers, env=env)
    assert not done.returncode, done.stdout + done.stderr
    return Project(output / "odd", uv_project.environ, done.stdout)


@pytest.fixture(scope="session")
def server(uv_project):
    """Return the uv project's server, started as its README says."""
    running = Running(uv_project.start.strip(), uv_project.path, uv_project.environ)
    running.expect("Ready")
    yield running
    running.end()


@pytest.fixture(scope="session")
def trained(uv_project, server):
    """Return what README's `train` says on the running server, the first time."""
    done = uv_project.run(uv_project.train)
    assert not done.returncode, done.stderr
    share_bytecode(uv_project)
    return done.stdout
