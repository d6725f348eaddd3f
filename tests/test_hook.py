"""The hook, through the real command: whatever goes wrong, the project stays and says what to type.

Stub programs stand for tools that fail or cannot be had here. conda is one of them: that its calls
are right is all that is tested; its solver and its channels were never tried.
"""

import json
import os
import re
import subprocess
import sys

import psutil
import pytest
import yaml
from conftest import ROOT, assert_gone, wait_until

NEXT = "The project is complete. To install and verify it, type:"


def last_lines(done, project, command):
    """Assert that the last thing on the screen is what to type."""
    assert done.stdout.endswith(f"{NEXT}\n\n  cd {project}\n  {command}\n\n")


UV = "uv sync && uv run start-server --check"


def test_without_uv_the_project_stays_and_says_what_to_type(cookiecutter, path_of, tmp_path):
    done = cookiecutter(tmp_path, "--no-input", env=path_of())
    assert done.returncode == 0
    assert "NOT VERIFIED: uv is not on this machine: install it (pip install uv" in done.stdout
    assert (tmp_path / "my-ml-project" / "pyproject.toml").exists()
    last_lines(done, tmp_path / "my-ml-project", UV)


def test_uv_is_found_where_uvx_says_it_is(cookiecutter, path_of, tmp_path):
    env = path_of(elsewhere='echo "elsewhere $@"')
    uv = f"{tmp_path}/stubs/elsewhere"
    done = cookiecutter(tmp_path, "--no-input", env=env | {"PATH": "/usr/bin:/bin", "UV": uv})
    assert done.returncode == 0
    log = (tmp_path / "my-ml-project" / "setup.log").read_text()
    assert "elsewhere sync" in log and "elsewhere run start-server --check" in log


def test_without_conda_the_project_says_where_to_get_it(cookiecutter, path_of, tmp_path):
    done = cookiecutter(tmp_path, "--no-input", "environment=conda", env=path_of())
    assert done.returncode == 0
    assert "NOT VERIFIED: conda is not on this machine: install it (Miniforge" in done.stdout
    assert "environment=uv, which does without" in done.stdout
    assert "conda run --no-capture-output --prefix ./.conda start-server --check" in done.stdout


def test_conda_is_called_as_the_readme_says(cookiecutter, path_of, tmp_path):
    done = cookiecutter(
        tmp_path, "--no-input", "environment=conda", env=path_of(conda='echo "conda $@"')
    )
    log = (tmp_path / "my-ml-project" / "setup.log").read_text()
    calls = [line for line in log.splitlines() if line.startswith("conda ")]
    named = calls.pop(2)
    assert named.startswith("conda run --no-capture-output --prefix ./.conda python -P ")
    assert named.endswith(" check-name")
    assert calls == [
        "conda env create --yes --prefix ./.conda --file environment.yml",
        "conda run --no-capture-output --prefix ./.conda python -m pip install --group dev",
        "conda run --no-capture-output --prefix ./.conda start-server --check",
    ]
    assert "Verified" in done.stdout
    assert "\n  conda activate ./.conda\n  my-ml-project train\n" in done.stdout
    readme = (tmp_path / "my-ml-project" / "README.md").read_text()
    assert "\n".join(calls) in readme
    assert yaml.safe_load((tmp_path / "my-ml-project" / "environment.yml").read_text())


def test_a_python_that_only_pretends_is_passed_over(cookiecutter, path_of, tmp_path):
    """pyenv's shims answer to names of Pythons that are not there; Windows has such names too."""
    stubs = {"python3.13": "exit 127", "python3.12": "exit 1", "python3.11": "exit 1"}
    stubs |= {"python3": "exit 1", "python": "exit 1"}
    done = cookiecutter(tmp_path, "--no-input", "environment=venv", env=path_of(**stubs))
    assert done.returncode == 0
    assert "NOT VERIFIED: no Python >=3.11,<3.14 that can make environments" in done.stdout


def test_what_pip_s_scripts_cannot_have_in_a_path_is_named(cookiecutter, path_of, tmp_path):
    env = path_of(**{"python3.13": '[ "$1" = -c ] || exit 9'})
    done = cookiecutter(tmp_path / "cost $5", "--no-input", "environment=venv", env=env)
    assert done.returncode == 0
    assert "pip's scripts do not work in a path with $: move the project." in done.stdout


def test_a_failed_install_shows_the_end_of_its_output(cookiecutter, path_of, tmp_path):
    env = path_of(uv='echo "resolution is impossible" >&2; exit 7')
    done = cookiecutter(tmp_path, "--no-input", env=env)
    assert done.returncode == 0
    assert "resolution is impossible" in done.stdout
    assert "NOT VERIFIED: uv sync failed with exit code 7." in done.stdout
    assert f"Details are in {tmp_path / 'my-ml-project' / 'setup.log'}." in done.stdout
    last_lines(done, tmp_path / "my-ml-project", UV)


def test_an_install_that_fails_once_is_tried_once_more(cookiecutter, path_of, tmp_path):
    """As networks do, and antivirus programs on Windows."""
    uv = f'echo "$@" >> {tmp_path}/calls; [ "$1" != sync -o -e {tmp_path}/again ] || '
    env = path_of(uv=uv + f"{{ touch {tmp_path}/again; exit 9; }}")
    done = cookiecutter(tmp_path, "--no-input", env=env)
    assert "\nVerified" in done.stdout, done.stdout
    calls = [line.split()[0] for line in (tmp_path / "calls").read_text().splitlines()]
    assert [call for call in calls if call != "pip"] == ["sync", "sync", "run", "run"]


def test_a_failed_check_is_told_apart_from_a_failed_install(cookiecutter, path_of, tmp_path):
    env = path_of(uv='[ "$1" = sync ] || { echo "The server ended"; exit 1; }')
    done = cookiecutter(tmp_path, "--no-input", env=env)
    assert done.returncode == 0
    assert "The server ended" in done.stdout
    assert "NOT VERIFIED: uv run start-server --check failed with exit code 1." in done.stdout


NAMESAKE = "NOT VERIFIED: {} is also the name of a package or command that the project depends on"


def told_to_rename(done, project):
    """Return whether the last lines ask for another name, with nothing of a tool's output."""
    again = f"Generate it again with another project_slug, such as my-{project.name}"
    return (
        done.returncode == 0
        and f"\n\n{NAMESAKE.format(project.name)}: name the project differently.\n" in done.stdout
        and done.stdout.endswith(f"{again}, and delete {project}.\n")
        and "Traceback" not in done.stdout
    )


def test_a_name_that_something_installed_has_is_told_instead_of_a_traceback(
    cookiecutter, path_of, tmp_path
):
    """The check's own exit code says so; any other one leaves the word to start-server."""
    check = f'echo "$@" >> {tmp_path}/calls; [ "${{@: -1}}" != check-name ] || exit'
    env = path_of(uv=f"{check} 3")
    done = cookiecutter(tmp_path, "--no-input", "project_slug=another-s", env=env)
    assert told_to_rename(done, tmp_path / "another-s"), done.stdout
    sync, run = (tmp_path / "calls").read_text().splitlines()
    assert sync == "sync" and run.startswith("run python -P ") and run.endswith(" check-name")

    done = cookiecutter(tmp_path, "--no-input", env=path_of(uv=f"{check} 1"))
    assert "Verified" in done.stdout


@pytest.mark.parametrize("listed", [" + another.s==3.1.3", "Would install a-1 Another_s-3.1.3 b-1"])
def test_a_name_for_which_the_resolver_finds_no_solution_is_told(
    cookiecutter, path_of, tmp_path, listed
):
    """By what the dependencies alone would install, as uv and pip list it."""
    env = path_of(uv=f'[ "$1" = pip ] && echo "$@" > {tmp_path}/asked && echo "{listed}"')
    done = cookiecutter(tmp_path, "--no-input", "project_slug=another-s", env=env)
    assert told_to_rename(done, tmp_path / "another-s"), done.stdout
    asked = (tmp_path / "asked").read_text().split()
    assert asked[:3] == ["pip", "install", "--dry-run"]
    assert {"mlflow>=3.17,<4", "pytest>=8"} <= {*asked}


@pytest.mark.parametrize("slug", ["another", "s"])
def test_a_name_that_is_part_of_a_dependency_s_is_free(cookiecutter, path_of, tmp_path, slug):
    env = path_of(uv='[ "$1" = pip ] && echo " + another.s==3.1.3" "Would install another-s-3"')
    done = cookiecutter(tmp_path, "--no-input", f"project_slug={slug}", env=env)
    assert "NOT VERIFIED: uv sync failed with exit code 1." in done.stdout


@pytest.mark.slow
def test_a_name_of_a_dependency_is_told(cookiecutter, uv_project, tmp_path):
    """With the real uv, for which nothing can be resolved then."""
    env = {"PATH": uv_project.environ["PATH"]}
    done = cookiecutter(tmp_path, "--no-input", "project_slug=flask", env=env)
    assert told_to_rename(done, tmp_path / "flask"), done.stdout


@pytest.mark.slow
def test_every_kind_of_name_in_a_real_environment_is_seen(uv_project, tmp_path):
    """Even where the project's own package is the one that is imported, but for Python's own."""
    hook = (ROOT / "hooks" / "post_gen_project.py").read_text(encoding="utf-8")
    code = hook.rpartition("\nmain()")[0]
    names = {
        "a module's": "yaml", "a folder's of several packages": "google", "a command's": "f2py",
        "a replaced package's": "fastapi", "one's that Windows needs": "colorama", "free": "free",
        "free, as an extra": "redis", "its own": uv_project.slug, "Python's": "json",
    }  # fmt: skip
    for slug in {*names.values()} - {"json"}:
        package = tmp_path / "src" / slug.replace("-", "_") / "__init__.py"
        package.parent.mkdir(parents=True)
        package.touch()
    found = uv_project.python(f"""
import json, os, sys
os.chdir({str(tmp_path)!r})
sys.path.insert(0, "src")
found = dict()
for kind, slug in {names!r}.items():
    defined = dict(__name__="hook")
    exec({code!r}, defined)
    defined["SLUG"] = slug
    try:
        defined["check_name"]()
    except SystemExit as end:
        found[kind] = end.code
print(json.dumps(found))""")
    taken = {kind for kind, code in json.loads(found).items() if code == 3}
    assert {*names} - taken == {"free", "free, as an extra", "its own"}


def test_an_index_out_of_reach_leaves_the_project(cookiecutter, environ, tmp_path):
    """Real uv, and an index address on which nobody listens."""
    env = {
        "PATH": f"{os.path.dirname(sys.executable)}:{environ['PATH']}",
        "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple",
        "UV_HTTP_RETRIES": "0",
        "UV_CACHE_DIR": str(tmp_path / "cache"),
    }
    done = cookiecutter(tmp_path, "--no-input", env=env)
    assert done.returncode == 0
    assert "127.0.0.1:9" in done.stdout
    assert "NOT VERIFIED: uv sync failed" in done.stdout
    last_lines(done, tmp_path / "my-ml-project", UV)


def test_an_index_that_only_pip_knows_is_named_when_uv_fails(cookiecutter, environ, tmp_path):
    """Real uv, which cannot reach the public index, in a home whose pip.conf has a mirror."""
    home = tmp_path / "home"
    file = home / ".config" / "pip" / "pip.conf"
    file.parent.mkdir(parents=True)
    file.write_text("[global]\nindex-url = https://user:secret@mirror.example/simple\n")
    env = {
        "HOME": str(home),
        "PATH": f"{os.path.dirname(sys.executable)}:{environ['PATH']}",
        "ALL_PROXY": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "UV_HTTP_RETRIES": "0",
        "UV_CACHE_DIR": str(tmp_path / "cache"),
    }
    done = cookiecutter(tmp_path, "--no-input", env=env)
    assert done.returncode == 0
    told = next(line for line in done.stdout.splitlines() if "NOT VERIFIED" in line)
    assert told.startswith("NOT VERIFIED: uv sync failed")
    assert f"; uv does not read {file}, which names a package index: " in told
    assert "set UV_DEFAULT_INDEX to its index-url" in told and "secret" not in done.stdout
    last_lines(done, tmp_path / "my-ml-project", UV)

    env["UV_DEFAULT_INDEX"] = "http://127.0.0.1:9/simple"
    done = cookiecutter(tmp_path, "--no-input", "-f", env=env)
    assert "NOT VERIFIED" in done.stdout and "uv does not read" not in done.stdout


def test_strict_mode_turns_trouble_into_an_error(cookiecutter, path_of, tmp_path):
    env = path_of() | {"MLFLOW_TEMPLATE_STRICT": "1"}
    done = cookiecutter(tmp_path, "--no-input", env=env)
    assert done.returncode == 1
    assert "NOT VERIFIED: uv is not on this machine" in done.stderr
    assert "--keep-project-on-failure" in done.stderr
    assert not (tmp_path / "my-ml-project").exists()

    done = cookiecutter(tmp_path, "--no-input", "--keep-project-on-failure", env=env)
    assert done.returncode == 1
    assert (tmp_path / "my-ml-project" / "README.md").exists()


def test_later_writes_the_files_and_says_what_to_type(cookiecutter, path_of, tmp_path):
    done = cookiecutter(tmp_path, "--no-input", "setup=later", env=path_of(uv="touch called"))
    assert done.returncode == 0
    project = tmp_path / "my-ml-project"
    assert f"  cd {project}\n  uv sync\n" in done.stdout
    assert f"  cd {project}\n  uv run my-ml-project train\n" in done.stdout
    assert "\n  git init\n  git add .\n  git commit -m" in done.stdout
    assert done.stdout.rstrip().endswith("The guide is README.md.")
    assert not (project / "called").exists() and not (project / "setup.log").exists()


def test_the_closing_screen_is_in_the_language_of_the_guide(cookiecutter, path_of, tmp_path):
    words = ("--no-input", "language=es")
    env = path_of(uv="true") | {"PYTHONIOENCODING": "utf-8"}
    done = cookiecutter(tmp_path, *words, env=env)
    assert "Verificado: el servidor de MLflow de my-ml-project arranca" in done.stdout
    assert "Después entrena, en una segunda terminal:" in done.stdout
    (tmp_path / ".git").mkdir()
    done = cookiecutter(tmp_path, *words, "setup=later", "project_slug=other", env=env)
    assert "Escrito, sin instalar." in done.stdout and "git init" not in done.stdout


def test_the_project_s_commands_see_nothing_of_the_caller_s_environment(
    cookiecutter, path_of, tmp_path
):
    theirs = {
        "MLFLOW_TRACKING_URI": "http://elsewhere",
        "VIRTUAL_ENV": "/theirs",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = cookiecutter(tmp_path, "--no-input", env=path_of(uv="env") | theirs)
    log = (tmp_path / "my-ml-project" / "setup.log").read_text()
    assert "Verified" in done.stdout
    assert not [name for name in theirs if f"{name}=" in log]


def test_a_slow_step_shows_that_time_passes(checkout, path_of, running, tmp_path):
    env = path_of(uv=f'while [ "$1" = sync -a ! -e {tmp_path}/enough ]; do sleep 0.1; done')
    words = f"{sys.executable} -m cookiecutter --no-input {checkout} -o {tmp_path}"
    command = running(words, tmp_path, **env)
    command.expect("[1/2] uv sync\n")
    assert re.fullmatch(r" {6}\d+ s\n", command.expect(" s\n"))
    (tmp_path / "enough").touch()
    command.expect("[2/2] uv run start-server --check\n")
    command.expect("Verified")


@pytest.mark.parametrize("step", ["sync", "run start-server"])
def test_ctrl_c_ends_what_was_started_and_says_what_to_type(
    checkout, environ, path_of, running, tmp_path, step
):
    env = path_of(uv=f'[[ "$*" = "{step}"* ]] || exit 0; echo $$ > {tmp_path}/pid; sleep 600')
    words = f"{sys.executable} -m cookiecutter --no-input {checkout} -o {tmp_path}"
    command = running(words, tmp_path, **env)
    command.expect(f"/2] uv {step}")
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    uv = psutil.Process(int((tmp_path / "pid").read_text()))
    command.press_ctrl_c()
    command.expect("NOT VERIFIED: it was interrupted.")
    command.expect(UV)
    assert_gone([uv])
    assert (tmp_path / "my-ml-project" / "README.md").exists()


def test_it_goes_on_after_a_hangup_that_its_parent_wants_ignored(
    checkout, path_of, running, tmp_path
):
    """As `nohup` does. The stub is a child of the hook, to which the signal goes."""
    env = path_of(uv='[ "$1" != sync ] || kill -HUP $PPID')
    words = f"{sys.executable} -m cookiecutter --no-input {checkout} -o {tmp_path}"
    running(f"trap '' HUP; {words}", tmp_path, **env).expect("Verified")


def test_an_index_out_of_reach_of_pip_leaves_the_project(cookiecutter, environ, tmp_path):
    """Real venv and pip, and an index address on which nobody listens."""
    pip = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    pip |= {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    done = cookiecutter(tmp_path, "--no-input", "environment=venv", env=pip)
    assert done.returncode == 0
    why = "NOT VERIFIED: .venv/bin/python -m pip install -r requirements.txt failed"
    assert "127.0.0.1" in done.stdout and why in done.stdout
    assert done.stdout.rstrip().endswith(".venv/bin/start-server --check")


@pytest.mark.slow
def test_what_it_says_to_type_later_works(cookiecutter, path_of, uv_project, tmp_path):
    done = cookiecutter(tmp_path, "--no-input", env=path_of())
    typed = done.stdout[done.stdout.index(NEXT) + len(NEXT) :]
    later = subprocess.run(
        ["bash", "-ec", typed], cwd="/", env=uv_project.environ, capture_output=True, text=True
    )
    assert not later.returncode, later.stderr
    assert f"Store      {tmp_path}/my-ml-project/tracking/mlflow.db" in later.stdout


@pytest.mark.slow
def test_generating_again_over_a_project_keeps_its_history(
    cookiecutter, uv_project, trained, tmp_path
):
    """With `-f` cookiecutter writes its files anew; what is not its own stays, edits with `-s`.

    A real server on a damaged history does not start: the last lines show why.
    """
    project = uv_project.copy(tmp_path / "my-ml-project")
    before = project.history()
    (project.path / "mine.py").write_text("mine = 1\n")
    with (project.path / "README.md").open("a") as readme:
        readme.write("Ours.\n")
    env = {"PATH": uv_project.environ["PATH"], "MLFLOW_TEMPLATE_STRICT": "1"}
    for words, kept in ((["-f", "-s"], True), (["-f", "setup=later"], False)):
        done = cookiecutter(tmp_path, "--no-input", *words, env=env)
        assert not done.returncode, done.stderr
        assert ("Verified" in done.stdout) == kept
        assert project.read("README.md").endswith("Ours.\n") == kept
        assert project.read("mine.py") == "mine = 1\n"
        assert project.history() == before

    broken = project.path / "tracking" / "mlflow.db"
    broken.write_bytes(b"this is no database" * 1000)
    done = cookiecutter(tmp_path, "--no-input", "-f", env={"PATH": uv_project.environ["PATH"]})
    assert done.returncode == 0
    assert "file is not a database" in done.stdout
    assert "NOT VERIFIED: uv run start-server --check failed with exit code 1." in done.stdout
    last_lines(done, tmp_path / "my-ml-project", UV)
    assert broken.read_bytes() == b"this is no database" * 1000


def test_without_hooks_the_tree_is_the_same(cookiecutter, path_of, tmp_path):
    for output, words in (("with", ["setup=later"]), ("without", ["--accept-hooks", "no"])):
        done = cookiecutter(tmp_path / output, "--no-input", *words, env=path_of())
        assert done.returncode == 0
    trees = [
        {str(file.relative_to(tmp_path / output)) for file in (tmp_path / output).rglob("*")}
        for output in ("with", "without")
    ]
    assert trees[0] == trees[1]


def test_a_terminal_that_knows_ascii_only_is_enough(cookiecutter, path_of, tmp_path):
    output = tmp_path / "josé"
    ascii_only = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = cookiecutter(output, "--no-input", env=path_of() | ascii_only)
    assert done.returncode == 0, done.stderr
    assert "NOT VERIFIED" in done.stdout
