"""Check the answers before any file is written; print one sentence for each impossible one."""

import keyword
import os
import re
import sys
import unicodedata
from pathlib import Path

SLUG = {{"%a" | format(cookiecutter.project_slug)}}
PORT = {{"%a" | format(cookiecutter.mlflow_port)}}
TEXTS = {
    "project_name": {{"%a" | format(cookiecutter.project_name)}},
    "description": {{"%a" | format(cookiecutter.description)}},
    "author_name": {{"%a" | format(cookiecutter.author_name)}},
}
# Names that a project cannot have, besides Python's own words and modules. Names of other installed
# packages and commands are found after the installation.
DEPENDENCIES = """
    boto3 distributed dotenv filelock flask-wtf hatchling hypothesis ipykernel matplotlib mlflow
    mypy nbclient optuna packaging pandas pre-commit psutil psycopg pyarrow pytest python-dotenv
    ruff scikit-learn scipy sklearn skops starlette typer uvicorn
"""
SHELL = """
    activate alias apt awk bash bg bind break brew builtin caller case cat cd chmod chown clear cls
    command compgen complete compopt conda continue copy coproc cp curl date deactivate declare del
    df diff dir dirs disown do docker done du echo elif else enable env esac eval exec exit export
    false fc fg fi find fish for function getopts git grep hash head help history if in jobs kill
    less let ln local logout ls make mamba man mapfile md mkdir more mount move mv nano node npm
    open perl ping pip pipx popd powershell printf ps pushd pwd py python python3 read readarray
    readonly ren return rm rmdir rsync scp sed select set sh shift shopt sleep sort source ssh
    start su sudo suspend tail tar tee test then time times top touch trap true type typeset ulimit
    umask unalias uniq unset until unzip uv uvx vi vim wait wc wget which while who whoami xargs
    yes zip zsh
"""
WINDOWS = """
    aux con conin conout nul prn com0 com1 com2 com3 com4 com5 com6 com7 com8 com9 lpt0 lpt1 lpt2
    lpt3 lpt4 lpt5 lpt6 lpt7 lpt8 lpt9
"""
PROJECT = "backups conftest data notebooks serving src start-server tests tracking"


def taken():
    """Return the names that are not allowed, spelt as slugs."""
    words = {*keyword.kwlist, *keyword.softkwlist, *sys.stdlib_module_names}
    listed = " ".join((DEPENDENCIES, SHELL, WINDOWS, PROJECT)).split()
    return {word.lower().replace("_", "-") for word in words} | {*listed}


def faults():
    """Yield one sentence for each impossible answer."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", SLUG) or len(SLUG) > 50:
        yield (
            f"project_slug is {SLUG!a}: type 1 to 50 of a-z, 0-9 and single hyphens, "
            "beginning with a letter, such as my-ml-project."
        )
    elif SLUG in taken():
        yield (
            f"project_slug is {SLUG!a}, the name of something that the project or its shell uses: "
            f"type another one, such as my-{SLUG}."
        )
    if not (PORT.isascii() and PORT.isdecimal() and 1024 <= int(PORT) <= 65535):
        yield f"mlflow_port is {PORT!a}: type a whole number from 1024 to 65535, such as 8080."
    for question, text in TEXTS.items():
        controls = {c for c in text if unicodedata.category(c) == "Cc"} - set("\t\n\r")
        if controls:
            yield f"{question} is {text!a}: type it without {min(controls)!a}, a control character."
    # MLflow's migrations fail in a path with %, Python environments in a path with the others.
    broken = sorted(set("%\t\n\r" + ":" * (os.name == "posix")) & set(str(Path.cwd())))
    if broken:
        yield (
            f"the folder for the project is {str(Path.cwd())!a}, and its environment does not work "
            f"in a path with {broken[0]!a}: name another one with --output-dir."
        )


def main():
    """Print the faults, if any, and exit."""
    found = list(faults())
    for sentence in found:
        print(sentence, file=sys.stderr)
    sys.exit(bool(found))


main()
