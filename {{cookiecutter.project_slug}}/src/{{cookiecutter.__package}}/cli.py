"""The project's command line: one command per step of a model's life."""

import ast
import json
from pathlib import Path
from typing import Annotated

import typer

from . import config
from .ops import backup as backups
from .ops import history, ownership, shell

SERVE_PORT = "PROJECT_SERVE_PORT"
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def steps(context: typer.Context) -> None:
    """The steps of this project's models, each tracked by its MLflow server."""
    if context.invoked_subcommand != "serve":  # it may run longer than a system keeps the folder
        context.with_resource(shell.own_temporary_folder())


class Numbers(ast.NodeTransformer):
    """Replace the names `inf` and `nan`, which Python's literals lack, by their numbers."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Return a number for its name."""
        return ast.Constant(float(node.id)) if node.id in ("inf", "nan") else node


def assignment(text: str) -> tuple[str, object]:
    """Return name and value of `name=value`; a value that is no Python literal is text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not name=value, as in max_depth=5")
    try:
        return name, ast.literal_eval(Numbers().visit(ast.parse(value.strip(), mode="eval")))
    except (SyntaxError, TypeError, ValueError):
        return name, value


@app.command()
def train(
    param: Annotated[
        list[str] | None,
        typer.Option("-p", "--param", metavar="NAME=VALUE", help="Change a parameter of model.py."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the random numbers.")] = 0,
) -> None:
    """Train, track the run, and register the model as the challenger."""
    changes = dict(assignment(text) for text in param or [])
    ownership.connect()  # before the imports that take seconds
    from .lifecycle import contract, train

    contract.check_names()
    from . import model

    if unknown := sorted(changes.keys() - model.PARAMS.keys()):
        raise typer.BadParameter(f"model.py has no {unknown}; it has {sorted(model.PARAMS)}")
    train.train(changes, seed)


@app.command()
def promote(
    unopposed: Annotated[
        bool,
        typer.Option("--unopposed", help="Leave out a champion that cannot take today's rows."),
    ] = False,
) -> None:
    """Let the challenger be judged; make it the champion if it is good enough, and better."""
    ownership.connect()
    from .lifecycle import promote

    promote.promote(unopposed=unopposed)


@app.command()
def rollback() -> None:
    """Give the alias champion back to the version that had it before."""
    ownership.connect()
    from .lifecycle import promote

    promote.rollback()


@app.command()
def predict(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Rows, as .csv or .parquet.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The same with predictions.")],
) -> None:
    """Score a file with the champion."""
    from .lifecycle import predict

    predict.predict(source, target)


@app.command()
def serve(
    port: Annotated[
        int | None, typer.Option(min=1024, max=65535, help="Another port than the settings'.")
    ] = None,
    log: Annotated[bool, typer.Option(help="Keep what is served in serving/.")] = True,
) -> None:
    """Answer over HTTP with the champion, and follow its alias."""
    port = port or serving_port()
    ownership.connect()
    from .lifecycle import serve

    serve.serve(port, log)


def serving_port() -> int:
    """Return the port of `serve` in the settings; raise `UserError` when it is the server's."""
    port = config.port(SERVE_PORT)
    if port != config.port("MLFLOW_PORT"):
        return port
    name = "MLFLOW_PORT" if config.set_by_shell("MLFLOW_PORT") else SERVE_PORT
    raise config.UserError(f"{SERVE_PORT} and MLFLOW_PORT are both {port}: {config.mend(name)}.")


@app.command()
def monitor(
    file: Annotated[
        Path | None, typer.Argument(help="Rows, instead of what was served.", show_default=False)
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
        bool, typer.Option("--retrain", help="On drift or decay: train anew, ask the gate.")
    ] = False,
) -> None:
    """Report drift and live quality of what was served."""
    ownership.connect()
    from .lifecycle import monitor

    monitor.monitor(file, labels, retrain)


@app.command()
def reproduce(run_id: Annotated[str, typer.Argument(metavar="RUN_ID")]) -> None:
    """Run an old run again and compare the metrics."""
    ownership.connect()
    from .lifecycle import reproduce

    reproduce.reproduce(run_id)


@app.command()
def backup(
    file: Annotated[
        Path | None, typer.Argument(help="A new file, or a folder. [default: backups/]")
    ] = None,
) -> None:
    """Write the whole history into one file, also while the server runs."""
    backups.backup(file)


@app.command()
def restore(file: Annotated[Path, typer.Argument(help="What backup wrote.")]) -> None:
    """Put a backup in the place of the history, which is kept beside it."""
    if sentence := ownership.in_use():
        raise config.UserError(sentence)
    backups.restore(file)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    close: Annotated[
        str | None, typer.Option(metavar="RUN_ID", help="End a run whose process is gone.")
    ] = None,
) -> None:
    """Say what is where, what is wrong, and what mends it; exit 1 when something is wrong."""
    from .ops import doctor

    if close:
        doctor.close_run(close)
        return
    findings = doctor.examine()
    say = json.dumps([one._asdict() for one in findings], indent=1) if as_json else None
    print(say or doctor.table(findings))
    raise typer.Exit(any(one.state == "wrong" for one in findings))


def main() -> None:
    """Run the command line."""
    shell.run(app, history.full)
