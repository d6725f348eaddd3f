"""The project's command line: one function per command."""

import ast
import json
from pathlib import Path
from typing import Annotated

import typer

from . import config
from .ops import history, ownership, shared, shell

SERVE_PORT = "PROJECT_SERVE_PORT"
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


def example(words: str) -> str:
    """Return the last line of a command's help."""
    return f"Example: {config.MODEL} {words}"


@app.callback()
def steps(context: typer.Context) -> None:
    """Train, judge, use and monitor this project's models, and look after its history."""
    if context.invoked_subcommand != "serve":  # it may run longer than a system keeps the folder
        context.with_resource(shell.own_temporary_folder())


def next_step(words: str) -> None:
    """Print what people type next."""
    print(f"Next     {shell.command(config.MODEL)} {words}")


class Numbers(ast.NodeTransformer):
    """Replace the names `inf` and `nan`, which Python's literals lack, by their numbers."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Return a number for its name."""
        return ast.Constant(float(node.id)) if node.id in ("inf", "nan") else node


def assignment(text: str) -> tuple[str, object]:
    """Return name and value of `name=value`; a value that is not a Python literal is text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not of the form name=value, such as max_depth=5")
    try:
        return name, ast.literal_eval(Numbers().visit(ast.parse(value.strip(), mode="eval")))
    except (SyntaxError, TypeError, ValueError):
        return name, value


@app.command(epilog=example("train -p n_estimators=300 --seed 1"))
def train(
    param: Annotated[
        list[str] | None,
        typer.Option("-p", "--param", metavar="NAME=VALUE", help="Set a parameter of model.py."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of all randomness.")] = 0,
) -> None:
    """Train a model, track the run, and register it as the challenger."""
    changes = dict(assignment(text) for text in param or [])
    ownership.connect()  # before the imports that take seconds
    from .lifecycle import contract, train

    contract.check_names()
    from . import model

    if unknown := sorted(changes.keys() - model.PARAMS.keys()):
        raise typer.BadParameter(f"model.py has no {unknown}; it has {sorted(model.PARAMS)}")
    train.train(changes, seed)
    next_step("promote")


@app.command(epilog=example("tune --trials 30 --jobs 2"))
def tune(
    trials: Annotated[int, typer.Option(min=1, help="Sets of parameters to try.")],
    jobs: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    cluster: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Dask scheduler, instead of processes here.")
    ] = "",
    resume: Annotated[
        str, typer.Option(metavar="RUN_ID", help="Go on with an interrupted sweep.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of all randomness.")] = 0,
) -> None:
    """Search for the best parameters, and train the challenger with them."""
    ownership.connect()
    from .lifecycle import tune

    tune.tune(trials, jobs, cluster, resume, seed)
    next_step("promote")


@app.command(epilog=example("promote"))
def promote(
    version: Annotated[
        int | None, typer.Argument(min=1, help="Another version than the challenger.")
    ] = None,
    unopposed: Annotated[
        bool,
        typer.Option("--unopposed", help="Judge by THRESHOLDS alone, without the champion."),
    ] = False,
) -> None:
    """Promote the challenger if it passes the gate: meets THRESHOLDS and beats the champion."""
    ownership.connect()
    from .lifecycle import promote

    promote.promote(unopposed=unopposed, number=version)
    next_step("serve")


@app.command(epilog=example("rollback"))
def rollback() -> None:
    """Give the alias champion back to the previous champion."""
    ownership.connect()
    from .lifecycle import promote

    promote.rollback()


@app.command(epilog=example("predict data/new.csv data/predicted.csv"))
def predict(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Rows: .csv, .parquet, or a folder of .parquet.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The same rows with predictions.")],
    jobs: Annotated[int, typer.Option(min=1, help="Processes, for a folder.")] = 1,
    cluster: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Dask scheduler, instead of processes here.")
    ] = "",
) -> None:
    """Make predictions for a file, or a folder of files, with the champion."""
    from .lifecycle import predict

    predict.predict(source, target, jobs, cluster)


@app.command(epilog=example("serve --no-log"))
def serve(
    port: Annotated[
        int | None, typer.Option(min=1024, max=65535, help="Port, instead of that in mlflow.env.")
    ] = None,
    log: Annotated[bool, typer.Option(help="Log requests and predictions in serving/.")] = True,
) -> None:
    """Serve the champion over HTTP; a new champion is loaded when the alias moves."""
    port = port or serving_port()
    ownership.connect()
    from .lifecycle import serve

    serve.serve(port, log)


def serving_port() -> int:
    """Return the port of `serve` in the settings; raise `UserError` if the server has the same."""
    port = config.port(SERVE_PORT)
    if port != config.port("MLFLOW_PORT"):
        return port
    name = "MLFLOW_PORT" if config.set_by_shell("MLFLOW_PORT") else SERVE_PORT
    remedy = config.how_to_fix(name)
    raise config.UserError(f"{SERVE_PORT} and MLFLOW_PORT are both {port}: {remedy}.")


@app.command(epilog=example("monitor --labels data/labels.csv --retrain"))
def monitor(
    file: Annotated[
        Path | None, typer.Argument(help="Rows, instead of logged requests.", show_default=False)
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The true values: the target, and id (the answer's header x-prediction-id); row, "
            "from 0, where a request had several.",
        ),
    ] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="On drift or decay: train again, and promote.")
    ] = False,
) -> None:
    """Report drift and live quality of the champion; exit 3 on drift or decay."""
    ownership.connect()
    from .lifecycle import monitor

    code = monitor.monitor(file, labels, retrain)
    if code and not retrain:
        next_step("monitor --labels FILE --retrain")
    raise typer.Exit(code)


@app.command(epilog=example("reproduce 0123456789abcdef0123456789abcdef"))
def reproduce(run_id: Annotated[str, typer.Argument(metavar="RUN_ID")]) -> None:
    """Repeat a training run and compare the metrics."""
    ownership.connect()
    from .lifecycle import reproduce

    reproduce.reproduce(run_id)


@app.command(epilog=example("clean --days 90"))
def clean(
    days: Annotated[int, typer.Option(min=0, help="Keep runs that ended later than this.")] = 30,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them.")] = False,
) -> None:
    """List, or delete, training runs that no alias, champion or former champion needs."""
    ownership.connect()
    from .lifecycle import clean

    clean.clean(days, yes)


@app.command(epilog=example("backup /media/disk"))
def backup(
    file: Annotated[
        Path | None, typer.Argument(help="File to write, or a folder for it. (default: backups/)")
    ] = None,
) -> None:
    """Write the whole history into one file; the server may run."""
    shared.refuse_elsewhere("backup")
    from .ops import backup

    backup.backup(file)


@app.command(epilog=example("restore backups/FILE.tar.gz"))
def restore(file: Annotated[Path, typer.Argument(help="A file that backup wrote.")]) -> None:
    """Replace the history by a backup; the old history is kept beside it."""
    shared.refuse_elsewhere("restore")
    from .ops import backup

    if sentence := ownership.in_use():
        raise config.UserError(sentence)
    backup.restore(file)


@app.command(epilog=example("migrate --to postgresql://mlflow@db/mlflow --artifacts s3://history"))
def migrate(
    to: Annotated[str, typer.Option(metavar="URI", help="postgresql://USER@HOST/DATABASE, empty.")],
    artifacts: Annotated[
        str,
        typer.Option(metavar="URI", help="s3://BUCKET/PATH, or leave the files where they are."),
    ] = "",
) -> None:
    """Move the whole history to PostgreSQL and an object store, with every id."""
    from .ops import migrate

    migrate.migrate(to, artifacts)


@app.command(epilog=example("doctor"))
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    close: Annotated[
        str | None, typer.Option(metavar="RUN_ID", help="Mark an interrupted run as KILLED.")
    ] = None,
) -> None:
    """Show where things are, what is wrong and how to fix it; exit 1 if anything is wrong."""
    from .ops import doctor

    if close:
        doctor.close_run(close)
        return
    findings = doctor.examine()
    lines = json.dumps([one._asdict() for one in findings], indent=1) if as_json else None
    print(lines or doctor.table(findings))
    raise typer.Exit(any(one.state == "wrong" for one in findings))


def main() -> None:
    """Run the command line."""
    shell.run(app, history.full_disk)
