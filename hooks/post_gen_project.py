"""Install the project and check that its server starts: the first commands of its README.

Runs under cookiecutter's own Python, with the standard library only. If a step fails, the project
stays, and the last lines say what to type.

The project's own Python also runs this file, to check that nothing else has the project's name.
"""

import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

SLUG = "{{ cookiecutter.project_slug }}"
LANGUAGE = "{{ cookiecutter.language }}"
ENVIRONMENT = "{{ cookiecutter.environment }}"
REQUIRES_PYTHON = "{{ cookiecutter._requires_python }}"
INSTALL = """{{ cookiecutter.__install }}"""
RUN = "{{ cookiecutter.__run }}"
TYPE = "{{ cookiecutter.__type }}"
LATER = "{{ cookiecutter.setup }}" == "later"
CRUFT = "{{ cookiecutter._output_dir is defined }}" == "False"
STRICT = os.environ.get("MLFLOW_TEMPLATE_STRICT") == "1"

PROJECT = Path.cwd()
LOG = PROJECT / "setup.log"
STEP_SECONDS = 1800
NAME_CHECK, NAME_TAKEN = "check-name", 3  # an argument of this file, and its exit code
HOW_TO_GET = {
    "uv": "uv is not on this machine: install it (pip install uv, or pipx install uv)",
    "conda": "conda is not on this machine: install it (Miniforge brings it), or generate the "
    "project with environment=uv, which does without",
    "venv": f"no Python {REQUIRES_PYTHON} that can make environments (with venv and ensurepip) "
    "is on PATH: install one",
}


# The closing screen, in the language of the guide.
WORDS = {
    "en": {
        "verified": "Verified: the MLflow server of {slug} starts and keeps its history in\n"
        "{history}.",
        "written": "Written, not installed. To install it, type:",
        "start": "Start the server:",
        "train": "Then train, in a second terminal:",
        "git": "Put the project into git before you train, so that each run records its commit:",
        "message": "New project",
        "guide": "The guide is README.md.",
    },
    "es": {
        "verified": "Verificado: el servidor de MLflow de {slug} arranca y guarda su historial en\n"
        "{history}.",
        "written": "Escrito, sin instalar. Para instalarlo, escribe:",
        "start": "Arranca el servidor:",
        "train": "Después entrena, en una segunda terminal:",
        "git": "Pon el proyecto en git antes de entrenar: así cada run guarda su commit:",
        "message": "Proyecto nuevo",
        "guide": "La guía es README.md.",
    },
}


def say(what):
    """Return a sentence of the closing screen in the guide's language."""
    return WORDS[LANGUAGE][what]


class Trouble(Exception):
    """Why the project could not be verified, in a few words."""


class NameTaken(Trouble):
    """Another package or command in the project's environment has the project's name."""

    def __str__(self):
        return (
            f"{SLUG} is also the name of a package or command that the project depends on: "
            "name the project differently"
        )


def surroundings():
    """Return the environment variables for the project's commands, without those of others."""
    foreign = ("MLFLOW_", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    # This first start writes the bytecode, so that the user's first start is fast.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept


ENVIRON = surroundings()


@cache  # for venv it tries several Pythons
def tool():
    """Return the words that call the chosen tool, or raise Trouble when it is missing."""
    if ENVIRONMENT == "venv":
        return python()
    if shutil.which(ENVIRONMENT):
        return [ENVIRONMENT]
    if ENVIRONMENT == "uv" and (found := os.environ.get("UV")):  # set by uvx
        return [found]
    raise Trouble(HOW_TO_GET[ENVIRONMENT])


def python():
    """Return the words that call the first suitable Python."""
    low, high = (int(minor) for minor in re.findall(r"3\.(\d+)", REQUIRES_PYTHON))
    test = f"import ensurepip, sys, venv; sys.exit(not ({low} <= sys.version_info[1] < {high}))"
    # Not the Python of cookiecutter's own environment, which may be first on PATH.
    own = Path(sys.executable).parent if sys.prefix != sys.base_prefix else None
    folders = os.environ.get("PATH", "").split(os.pathsep)
    path = os.pathsep.join(folder for folder in folders if Path(folder) != own)
    names = [f"python3.{minor}" for minor in range(high - 1, low - 1, -1)] + ["python3", "python"]
    launcher = [["py", f"-{name.removeprefix('python')}"] for name in names if name != "python"]
    for words in launcher * (os.name == "nt") + [[name] for name in names]:
        # Try it: pyenv and Windows put names on PATH that only pretend to be Python.
        found = shutil.which(words[0], path=path)
        if found and not subprocess.call(
            [found, *words[1:], "-c", test],
            env=ENVIRON,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ):
            return [found, *words[1:]]
    raise Trouble(HOW_TO_GET["venv"])


def words_of(line):
    """Return a command of the README as a list of words for this system."""
    name = "python3" if ENVIRONMENT == "venv" else ENVIRONMENT
    words = shlex.split(line)
    if words[0] == name:
        with suppress(Trouble):  # keep the name while the tool is missing
            words[:1] = tool()
    elif os.name == "nt":
        words[0] = words[0].replace(".venv/bin/", ".venv\\Scripts\\")
    return words


def commands():
    """Return the README's commands as lists of words."""
    return [words_of(line) for line in [*INSTALL.splitlines(), f"{RUN}start-server --check"]]


def typed(words):
    """Return `words` quoted for a terminal."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def execute(words, log):
    """Run one command with its output in `log`; raise Trouble if it fails or takes too long."""
    if code := exit_code(words, log):
        raise Trouble(f"{typed(words)} failed with exit code {code}")


def install(words, log):
    """Run one command of the installation, a second time if it fails; raise Trouble as `execute`.

    Networks fail for a moment, and antivirus programs on Windows hold files that were just written.
    """
    if not exit_code(words, log):
        return
    if needs_its_own_name():
        raise NameTaken()
    print("      no: trying once more", flush=True)
    try:
        execute(words, log)
    except Trouble as trouble:
        blocked = "; an antivirus program may have blocked it" if os.name == "nt" else ""
        raise Trouble(f"{trouble}{unread_index()}{blocked}") from None


def exit_code(words, log, **environ):
    """Run one command with its output in `log`; raise Trouble if it takes too long."""
    group = {"start_new_session": True} if os.name == "posix" else {}
    program = shutil.which(words[0]) or words[0]
    begin = time.monotonic()
    process = subprocess.Popen(
        [program, *words[1:]],
        env=ENVIRON | environ,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        **group,
    )
    try:
        while process.poll() is None:
            if time.monotonic() - begin > STEP_SECONDS:
                raise Trouble(f"{typed(words)} did not end within {STEP_SECONDS} s")
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                print(f"      {time.monotonic() - begin:.0f} s", flush=True)
    finally:
        end(process)
    return process.returncode


def end(process):
    """End a process and its children, if it still runs: first SIGTERM, then SIGKILL."""
    if process.poll() is not None:
        return
    if os.name == "nt":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True)
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(60)  # start-server first ends its own processes
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def set_up():
    """Run the commands; print one line for each, and write their output into setup.log."""
    tool()
    lines = commands()
    with LOG.open("ab") as log:
        for number, words in enumerate(lines, 1):
            installed = number == len(lines)
            if installed and shares_name(log):
                raise NameTaken()
            print(f"[{number}/{len(lines)}] {typed(words)}", flush=True)
            log.write(f"$ {typed(words)}\n".encode())
            log.flush()
            if installed:
                execute(words, log)
            else:
                install(words, log)


# The project's name


def shares_name(log):
    """Return whether another installed package or command has the project's name."""
    words = [*words_of(f"{RUN}python -P"), __file__, NAME_CHECK]
    return exit_code(words, log) == NAME_TAKEN


def check_name():
    """Exit with NAME_TAKEN if another package or command has the project's name.

    Runs in the project's Python, for `shares_name`. The other package is imported instead (yaml),
    has a part in a folder of the same name (google), was replaced by the project (fastapi), or had
    a command that the project's has overwritten (f2py).
    """
    package = SLUG.replace("-", "_")
    spec = importlib.util.find_spec(package)
    own = PROJECT / "src" / package / "__init__.py"
    if spec and Path(spec.origin or "").resolve() != own.resolve():
        sys.exit(NAME_TAKEN)
    names = set()
    for module, owners in importlib.metadata.packages_distributions().items():
        names |= {module} if {*map(slug, owners)} - {SLUG} else set()
    for other in importlib.metadata.distributions():
        if slug(other.name) != SLUG:
            names |= {one.name for one in other.entry_points if one.group == "console_scripts"}
            needed = [text for text in other.requires or [] if "extra ==" not in text]
            names |= {re.match(r"[\w.-]+", text)[0] for text in needed}
    sys.exit(NAME_TAKEN if SLUG in map(slug, names) else 0)


def slug(name):
    """Return the name of a package, module or command, spelt as a slug."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needs_its_own_name():
    """Return whether an installation failed because a dependency has the project's name.

    uv and pip report this in many ways. So they are asked what they would install for the project's
    dependencies alone.
    """
    print(f"      failed: is there a dependency called {SLUG}?", flush=True)
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = re.findall(r'(?m)^    "([^"]+)",$', text)
    pip = words_of("uv pip" if ENVIRONMENT == "uv" else f"{RUN}python -m pip")
    once = {"UV_HTTP_RETRIES": "0", "PIP_RETRIES": "0"}
    with tempfile.TemporaryFile() as said, suppress(Trouble, OSError):
        if exit_code([*pip, "install", "--dry-run", *wanted], said, **once) == 0:
            said.seek(0)
            name = SLUG.replace("-", "[-_.]")
            found = re.search(rf"(?im)[ ]{name}(==|-)\d", said.read().decode(errors="replace"))
            return bool(found)
    return False


def unread_index():
    """Return a remark if a package index is set for pip but not for uv."""
    if ENVIRONMENT != "uv" or {"UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL"} & set(os.environ):
        return ""
    home = Path.home()
    if os.name == "nt":
        folders = [*map(os.environ.get, ("APPDATA", "PROGRAMDATA")), home]
        files = [Path(folder or home, "pip", "pip.ini") for folder in folders]
    else:
        folders = [os.environ.get("XDG_CONFIG_HOME", home / ".config"), "/etc/xdg"]
        folders += [home / "Library/Application Support", "/Library/Application Support"]
        files = [Path(folder, "pip", "pip.conf") for folder in folders]
        files += [home / ".pip" / "pip.conf", Path("/etc/pip.conf")]
    for file in [Path(os.environ.get("PIP_CONFIG_FILE", os.devnull)), *files]:
        with suppress(OSError, UnicodeError):
            if re.search(r"(?mi)^\s*index[-_]url\s*[=:]", file.read_text(encoding="utf-8")):
                return (
                    f"; uv does not read {file}, which names a package index: "
                    "set UV_DEFAULT_INDEX to its index-url and try again"
                )
    if "PIP_INDEX_URL" in os.environ:
        return "; uv does not read PIP_INDEX_URL: set UV_DEFAULT_INDEX to the same and try again"
    return ""


# What it says


def go_there():
    """Return the command that changes into the project."""
    return f"cd {typed([str(PROJECT)])}"


def next_steps():
    """Return the commands up to the first model."""
    on_windows = "\\Scripts\\" if os.name == "nt" else "/bin/"
    activate = "conda activate ./.conda\n  " if ENVIRONMENT == "conda" else ""
    prefix = activate + TYPE.replace("/bin/", on_windows)
    return f"""
{say("start")}

  {go_there()}
  {prefix}start-server

{say("train")}

  {go_there()}
  {prefix}{SLUG} train
{into_git()}
{say("guide")}
"""


def into_git():
    """Return the commands that put the project into git, unless it is in a repository already."""
    if any((folder / ".git").exists() for folder in (PROJECT, *PROJECT.parents)):
        return ""
    return f"""
{say("git")}

  git init
  git add .
  git commit -m "{say("message")}"
"""


def not_verified(why):
    """Print what is wrong and what to type; the project stays unless strict mode is on."""
    out = sys.stderr if STRICT else sys.stdout
    if isinstance(why, NameTaken):
        print(f"\nNOT VERIFIED: {why}.\nDetails are in {LOG}.", file=out)
        again = f"Generate it again with another project_slug, such as my-{SLUG}"
        print(f"{again}, and delete {PROJECT}.", file=out, flush=True)
        sys.exit(STRICT)
    if LOG.exists():
        last = LOG.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
        print("\n".join(["", *last]), file=out)
    between = "\n  " if os.name == "nt" else " && "  # PowerShell 5 knows no &&
    later = between.join(map(typed, commands()))
    bad = [character for character in '"$`' if character in str(PROJECT)]
    if bad and ENVIRONMENT != "uv":  # pip writes the path unescaped into a line of shell
        why = f"{why}; pip's scripts do not work in a path with {bad[0]}: move the project"
    print(f"\nNOT VERIFIED: {why}.", file=out)
    if LOG.exists():
        print(f"Details are in {LOG}.", file=out)
    if STRICT:
        print("To look at the project, generate it with --keep-project-on-failure.", file=out)
    print(f"The project is complete. To install and verify it, type:\n\n  {go_there()}", file=out)
    print(f"  {later}\n", file=out, flush=True)
    sys.exit(STRICT)


def main():
    """Set the project up, and print what to type next."""
    if sys.argv[1:] == [NAME_CHECK]:
        check_name()
    if CRUFT:
        return
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    for name in {"SIGTERM", "SIGHUP"} & set(dir(signal)):
        number = getattr(signal, name)
        if signal.getsignal(number) == signal.SIG_DFL:  # not if a parent ignores it, as nohup does
            signal.signal(number, signal.default_int_handler)
    if LATER:
        lines = "\n  ".join(map(typed, commands()[:-1]))
        print(f"\n{say('written')}\n\n  {go_there()}\n  {lines}\n{next_steps()}")
        return
    LOG.unlink(missing_ok=True)
    print(f"\nSetting up {PROJECT}: one to three minutes, mostly downloads.", flush=True)
    try:
        set_up()
    except Trouble as trouble:
        not_verified(trouble)
    except OSError as error:
        not_verified(f"a command could not be run: {error}")
    except KeyboardInterrupt:
        not_verified("it was interrupted")
    print("\n" + say("verified").format(slug=SLUG, history=PROJECT / "tracking"))
    print(next_steps())


main()
