"""The hands-on, executed: each command, what it prints, and its pictures, in one real project.

A comment before a block says what a reader learns from the text: `in NAME` (a terminal that stays
busy), `ctrl-c NAME`, `close NAME`, `end of NAME`, `exit CODE`, `file NAME`, `apply` (a change of
files), `first lines of FILE`, `in the folder above`, `alone` (not run here: it is on this machine),
`the newest backup`.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import (
    HANG_SECONDS,
    INSTALL_SECONDS,
    ROOT,
    Project,
    Running,
    assert_gone,
    free_port,
    wait_until,
)
from test_browser import keep_picture
from test_browser import page as page  # a fixture

DOCS = {language: ROOT / "docs" / f"hands-on.{language}.md" for language in ("en", "es")}
PART = re.compile(
    r"^<!-- (?P<note>.+?) -->$"
    r"|^```(?P<kind>\w+)\n(?P<text>.*?)^```$"
    r"|^!\[[^\]]*\]\(hands-on/(?P<picture>\w+)\.png\)$",
    re.MULTILINE | re.DOTALL,
)
NUMBER = re.compile(r"\b(tr-|m-)?[0-9a-f]{32}\b|\d{8}-\d{6}-\d{6}|-?\d[\d.,:/]*( %)?")
WAITING = re.compile(r"  \d+ s (waiting for its answer|\(the first start takes longest\))$")
VIEW = "?workflowType=machine_learning"


class Part(NamedTuple):
    """A directive, a block or a picture of the document."""

    kind: str
    text: str


def parts(language):
    found = []
    for part in PART.finditer(DOCS[language].read_text("utf-8")):
        if part["note"]:
            found.append(Part("note", part["note"]))
        elif part["picture"]:
            found.append(Part("picture", part["picture"]))
        else:
            found.append(Part(part["kind"], part["text"]))
    return found


def test_both_languages_have_the_same_blocks_and_pictures():
    assert parts("en") == parts("es")
    headings = [re.findall(r"^## (\d+)", file.read_text("utf-8"), re.M) for file in DOCS.values()]
    assert headings[0] == headings[1] == [str(number) for number in range(1, 13)]


def test_the_readmes_lead_there():
    assert "docs/hands-on.en.md" in (ROOT / "README.md").read_text("utf-8")
    for language, file in DOCS.items():
        (guide,) = (ROOT / "{{cookiecutter.project_slug}}").glob(f"*README*'{language}'*")
        assert file.name in guide.read_text("utf-8")


def masked(line):
    """Return a line without what differs from one machine or run to the next.

    Of a line that says how long a start takes, which only a slow machine prints, nothing is left.
    """
    if WAITING.match(line):
        return ""
    line = re.sub(r"(/\S*)?/my-ml-project\b(?=[/\s:)]|$)", "/home/you/my-ml-project", line)
    return " ".join(NUMBER.sub("#", line).split())


def check(expected, printed):
    """Assert that lines were printed as the document has them; `...` stands for any."""
    told = [masked(line) for line in printed.splitlines()]
    told = [line for line in told if line]
    pattern = ""
    for line in filter(None, map(masked, expected.splitlines())):
        if line == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += re.escape(line).replace(re.escape("..."), ".*") + r"\n"
    text = "".join(f"{line}\n" for line in told)
    assert re.fullmatch(pattern, text), f"{expected}\n--- is not what was printed:\n{printed}"


class Reader:
    """Somebody who does what the document says."""

    def __init__(self, folder, environ, generate):
        self.folder, self.environ, self.generate = folder, environ, generate
        self.project = None
        self.ports = {"8080": str(free_port()), "8081": str(free_port())}
        self.terminals, self.notes, self.printed = {}, [], ""
        self.waiting = None

    def here(self, text):
        """Return text with this machine's ports."""
        return re.sub("808[01]", lambda port: self.ports[port[0]], text)

    def environment(self):
        return self.environ | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}

    def do(self, part):
        if part.kind == "note":
            self.note(part.text)
        elif part.kind == "bash":
            self.command(part.text.strip())
        elif part.kind == "text":
            self.compare(part.text)
        elif part.kind == "python":
            name = self.taken("file ")
            (self.project / name).write_text(self.here(part.text))
        elif part.kind == "diff":
            self.taken("apply")
            words = ["git", "apply", "--unidiff-zero", "-"]
            subprocess.run(words, cwd=self.project, input=part.text, text=True, check=True)
        self.notes = [] if part.kind != "note" else self.notes

    def note(self, text):
        what, _, name = text.partition(" ")
        if what == "ctrl-c":
            self.terminals.pop(name).end(signal.SIGINT)
        elif what == "close":
            running = self.terminals.pop(name)
            family = running.children()
            os.killpg(running.process.pid, signal.SIGHUP)
            running.process.wait(HANG_SECONDS)
            assert_gone(family)
        else:
            self.notes.append(text)

    def taken(self, start):
        """Return the rest of the directive that starts so; "" if there is none."""
        return next((note.removeprefix(start) for note in self.notes if note.startswith(start)), "")

    def command(self, text):
        assert "\n" not in text, "one command in a block"
        if "alone" in self.notes:
            return
        if text.startswith("cd "):
            self.project = self.folder / text.removeprefix("cd ")
            return
        if text.startswith("uvx cookiecutter"):
            self.printed = self.generate(self.folder, f"mlflow_port={self.ports['8080']}")
            settings = self.folder / "my-ml-project" / "mlflow.env"
            changed = settings.read_text().replace("8081", self.ports["8081"])
            settings.write_text(changed)
            return
        if "the newest backup" in self.notes:
            newest = max((self.project / "backups").glob("*.tar.gz"))
            text = f"{text.rpartition(' ')[0]} {newest}"
        cwd = self.folder if "in the folder above" in self.notes else self.project
        self.waiting = None
        name = self.taken("in ") if "in the folder above" not in self.notes else ""
        if name:
            self.waiting = Running(f"exec {self.here(text)}", cwd, self.environment())
            self.terminals[name] = self.waiting
            return
        done = subprocess.run(
            ["bash", "-c", self.here(text)],
            cwd=cwd,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=INSTALL_SECONDS,
        )
        assert done.returncode == int(self.taken("exit ") or 0), f"{text}\n{done.stdout}"
        self.printed = done.stdout

    def compare(self, expected):
        lines = [line for line in expected.splitlines() if line not in ("", "...")]
        if file := self.taken("first lines of "):
            self.printed = "\n".join((self.project / file).read_text().splitlines()[:3])
        elif name := self.taken("end of "):
            running = self.terminals.pop(name)
            assert running.process.wait(HANG_SECONDS) == 0
            self.printed = "".join(iter(running.lines.get, None))
        elif self.waiting:  # a terminal that stays busy: its last line comes when it is ready
            self.waiting.expect(re.split(r"[\d/]|\.\.\.", lines[-1])[0])
            self.printed, self.waiting = "".join(self.waiting.seen), None
        check(expected, self.printed)


def open_page(page, text, word):
    """Open the address that was printed after a word."""
    page.goto(re.findall(rf"^{word} +(\S+)", text, re.MULTILINE)[-1])


def close_chat(page):
    """Close MLflow's chat, which covers a third."""
    page.get_by_role("button", name="Close").first.click()


def see_run(page, printed):
    open_page(page, printed, "Run")
    close_chat(page)
    shown = ("roc_auc", "n_estimators", "training (", "Model registry")
    for text in shown:
        page.get_by_text(text).first.wait_for()
    page.get_by_text("git", exact=True).first.wait_for()
    return shown


def see_compare(page, printed):
    open_page(page, printed, "Run")
    page.goto(f"{page.url.partition('/runs/')[0]}/runs{VIEW}")
    page.get_by_text("matching run").wait_for()
    page.get_by_text("training (").nth(2).wait_for()
    box, compare = page.get_by_label("Select all runs"), page.get_by_role("button", name="Compare")

    def is_chosen():
        if not box.is_checked():  # the table may be drawn again, and forget it
            box.click(force=True)
        return compare.is_visible()

    wait_until(is_chosen)
    compare.click()
    shown = "Comparing 3 Runs from 1 Experiment"
    page.get_by_text(shown).first.wait_for()
    page.get_by_text("Parallel Coordinates Plot").first.wait_for()
    page.locator(".js-plotly-plot, svg.main-svg").first.wait_for()
    return shown


def see_sweep(page, printed):
    open_page(page, printed, "Sweep")
    page.goto(page.url.replace("?", "/artifacts/plots/history.png?"))
    page.locator("img[src^='blob:']").first.wait_for()
    return "history.png"


def see_drift(page, printed):
    open_page(page, printed, "Report")
    inside = page.frame_locator("iframe")
    inside.get_by_text("my-ml-project, version 4: drift").first.wait_for()
    heights = "all => Promise.all(all.map(one => one.decode().then(() => one.naturalHeight)))"
    return inside.locator("img").evaluate_all(heights)


PICTURES = {"run": see_run, "compare": see_compare, "sweep": see_sweep, "drift": see_drift}


@pytest.fixture(scope="module")
def reader(environ, checkout, uv_project, tmp_path_factory):
    def generate(folder, port):
        done = subprocess.run(
            [sys.executable, "-m", "cookiecutter", checkout, "--no-input", "-o", folder, port],
            env=uv_project.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=INSTALL_SECONDS,
        )
        assert not done.returncode, done.stdout
        return done.stdout

    reader = Reader(tmp_path_factory.mktemp("home") / "you", uv_project.environ, generate)
    reader.folder.mkdir()
    yield reader
    for running in reader.terminals.values():
        running.end()


@pytest.mark.slow
def test_every_command_prints_what_the_page_says(reader, page, pytestconfig):
    folder = pytestconfig.getoption("pictures")
    page.set_viewport_size({"width": 1100, "height": 720})
    for part in parts("en"):
        if part.kind == "picture":
            about = PICTURES[part.text](page, reader.printed)
            file = Path(folder or ROOT / "docs").resolve() / "hands-on" / f"{part.text}.png"
            project = Project(reader.project, reader.environ)
            keep_picture(page, project, file, about, again=bool(folder))
        else:
            reader.do(part)
