"""The project's command line: one command per step of a model's life."""

import ast
from typing import Annotated

import typer

from . import config
from .ops import server

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def steps() -> None:
    """The steps of this project's models, each tracked by its MLflow server."""


def assignment(text: str) -> tuple[str, object]:
    """Return name and value of `name=value`; a value that is no Python literal is text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not name=value, as in max_depth=5")
    try:
        return name, ast.literal_eval(value)
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
    server.connect()  # before the imports that take seconds
    from . import model, train

    if unknown := sorted(changes.keys() - model.PARAMS.keys()):
        raise typer.BadParameter(f"model.py has no {unknown}; it has {sorted(model.PARAMS)}")
    train.train(changes, seed)


def main() -> None:
    """Run the command line."""
    config.run(app)
