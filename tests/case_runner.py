"""Run commands on copies of a project, each with files of its own; `test_cases.py` starts it.

Runs in the project's environment and imports its libraries once. Reads a case as a line of JSON,
and writes a line with exit code and output of each of its steps.
"""

import contextlib
import importlib
import io
import json
import os
import shutil
import sys
import traceback
from pathlib import Path

PROJECT, FOLDER = map(Path, sys.argv[1:])
PACKAGE, SLUG = "my_ml_project", "my-ml-project"


def copy(name, files):
    """Copy the project under the name of a case, which its experiments and model have, too."""
    root, package = FOLDER / name, f"case_{name}"
    source = root / "src" / package
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "src" / PACKAGE, source, ignore=ignored)
    for file in ("mlflow.env", "pyproject.toml"):
        shutil.copy(PROJECT / file, root)
    config = source / "config.py"
    config.write_text(config.read_text("utf-8").replace(SLUG, name.replace("_", "-")), "utf-8")
    for file, text in files.items():
        (source / file).write_text(text, "utf-8")
    sys.path.insert(0, str(root / "src"))
    os.chdir(root)
    sys.argv[0] = str(root / "case")
    return package


def step(package, words):
    """Run a command of the project, or Python code after the word `python`."""
    import mlflow

    out, code = io.StringIO(), 0
    sys.argv[1:] = words
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            if words[0] == "python":
                names = {"mlflow": mlflow, "client": mlflow.MlflowClient(), "package": package}
                exec(words[1], names)
            else:
                importlib.import_module(f"{package}.cli").main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
            print(end.code if isinstance(end.code, str) else "")
        except BaseException:
            traceback.print_exc()
            code = 1
    return [code, out.getvalue()]


def main():
    answers, sys.stdout = sys.stdout, sys.stderr
    importlib.import_module(PACKAGE)  # reads the settings before MLflow does
    for line in sys.stdin:
        case = json.loads(line)
        try:
            package = copy(case["name"], case["files"])
            done = [step(package, words) for words in case["steps"]]
        except Exception:
            done = [[1, traceback.format_exc()]]
        print(json.dumps(done), file=answers, flush=True)


main()
