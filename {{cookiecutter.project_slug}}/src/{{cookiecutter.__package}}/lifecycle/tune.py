"""A sweep: search for parameters by cross-validation, and train a challenger with the best."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
import optuna
import typer
from optuna.trial import TrialState

from .. import data, model
from ..config import MODEL, TUNING_EXPERIMENT, VIEW, UserError
from ..ops import ownership
from ..ops.shell import command, counted
from . import batches, contract, record, registry, sweep, trials
from .executors import Gone, Outcome, Workers, workers
from .folds import Folded, fold_metrics, folded
from .parts import rows_of
from .provenance import record_files, run_tags
from .train import run_of_load, train


def tune(count: int, jobs: int = 1, cluster: str = "", resume: str = "", seed: int = 0) -> str:
    """Try `count` sets of parameters from `space`, and train the challenger with the best.

    A trial is measured on folds of the training rows, one after another, and ends early if it is
    worse than most. Its run is below that of the sweep. `jobs` processes work here, or the workers
    of a Dask `cluster`. `resume` is the run of an interrupted sweep. Returns the sweep's run id.
    Raises `UserError` if no trial ends well, or if the sweep is interrupted.
    """
    uri = ownership.connect()
    contract.check_names()
    contract.check_parameters(model.PARAMS)
    if not hasattr(model, "space"):
        raise UserError(
            "model.py has no function space(trial), so there is nothing to search: write one that "
            'returns parameters, such as {"C": trial.suggest_float("C", 0.01, 10, log=True)}.'
        )
    known = known_trials(resume)
    with run_of_load():
        registry.open_experiment(TUNING_EXPERIMENT)
        rows, study = rows_to_search(), trials.study_of(seed, known)
    with parent_run(resume) as run:
        parent = f"{uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}{VIEW}"
        print(f"Sweep    {parent}")
        search = Search(run.info, study, count, seed)
        with interruptible(search), workers(jobs, cluster, rows) as hands:
            print(f"Trials   {count} on {hands.slots()} at once, {len(rows.folds)} folds each")
            try:
                search.run(hands, len(rows.folds))
            except Gone as gone:
                search.stopped = str(gone)
        finish(study, run.info.run_id)
    if search.stopped:
        kept = f"{counted(search.ended(), 'trial')} {'is' if search.ended() == 1 else 'are'} kept"
        raise UserError(f"{search.stopped}: {kept}. {go_on(count, run)}")
    best = best_of(study)
    print(f"Best     {model.PRIMARY[0]} {best.value:.4f} of trial {best.number}: {best.params}")
    made = train(model.space(optuna.trial.FixedTrial(best.params)), seed)
    client = mlflow.MlflowClient()
    for name, value in {"sweep": run.info.run_id, "trials": search.ended()}.items():
        client.set_tag(made, name, value)
    return run.info.run_id


class Search:
    """A search that asks Optuna for trials, has their folds measured, and logs those that ended."""

    def __init__(self, run, study: optuna.Study, count: int, seed: int) -> None:
        self.parent, self.experiment = run.run_id, run.experiment_id
        self.study, self.count, self.seed = study, count, seed
        self.stopped = ""  # why the search ends early
        self._open: dict[int, trials.Trial] = {}

    def ended(self) -> int:
        """Return how many trials have ended."""
        return len(self.study.get_trials(deepcopy=False)) - len(self._open)

    def run(self, hands: Workers, folds: int) -> None:
        """Search until all trials have ended, or until `stopped` is set."""
        done = self.ended()
        with typer.progressbar(length=self.count, label="Tuning") as bar:
            bar.update(done)
            while not self.stopped and (self.ended() < self.count or self._open):
                while hands.idle() > 0 and self.ended() + len(self._open) < self.count:
                    self._ask(hands)
                for outcome in hands.wait():
                    self._receive(outcome, hands, folds)
                bar.update(self.ended() - done)
                done = self.ended()

    def _ask(self, hands: Workers) -> None:
        """Start the first fold of a new trial."""
        asked = self.study.ask()
        trial = self._open[asked.number] = trials.Trial(asked, {})
        try:
            trial.params = contract.check_parameters(model.PARAMS | model.space(asked))
        except Exception as error:  # whatever the user's function raises
            self._end(trial, TrialState.FAIL, error)
            return
        hands.start(asked.number, fold_metrics, trial.params, 0, self.seed)

    def _receive(self, outcome: Outcome, hands: Workers, folds: int) -> None:
        """Take in the metrics of a fold: the next one follows, or the trial ends."""
        trial, error = self._open[outcome.key], outcome.error
        if error is None and model.PRIMARY[0] not in outcome.value:
            error = UserError(f"measure() in model.py does not return {model.PRIMARY[0]}.")
        if error is not None:
            self._end(trial, TrialState.FAIL, error)
            return
        trial.folds.append(outcome.value)
        trial.optuna.report(trial.value(), len(trial.folds) - 1)
        if len(trial.folds) == folds:
            self._end(trial, TrialState.COMPLETE)
        elif trial.optuna.should_prune():
            self._end(trial, TrialState.PRUNED)
        else:
            fold = len(trial.folds)
            hands.start(outcome.key, fold_metrics, trial.params, fold, self.seed)

    def _end(self, trial: trials.Trial, state: TrialState, error: object = None) -> None:
        """Tell Optuna how a trial ended, and log it."""
        number, before = trial.optuna.number, self._best()
        value = trial.value() if state == TrialState.COMPLETE else None
        self.study.tell(trial.optuna, value, state)
        del self._open[number]
        trials.log(self.parent, self.experiment, trial, state, error)
        if error is not None:
            told = (str(error).splitlines() or [""])[0]
            typer.echo(f"\nTrial    {number} failed: {type(error).__name__}: {told[:200]}")
        elif self._best() != before:
            typer.echo(f"\nTrial    {number}: {model.PRIMARY[0]} {value:.4f} is the best so far")

    def _best(self) -> float | None:
        """Return the best value so far."""
        return self.study.best_value if sweep.complete(self.study) else None


def known_trials(resume: str) -> list[dict]:
    """Return the trials of the sweep to go on with; raise `UserError` if the run is none."""
    if not resume:
        return []
    record.checked_run(resume, step="tune")
    return trials.stored(resume)


def rows_to_search() -> Folded:
    """Return the training rows, in folds."""
    rows = rows_of(data.load(), batches.stored())
    X, y = rows.part("training")
    return folded(rows.with_categories(X), X, y)


@contextmanager
def parent_run(resume: str) -> Iterator:
    """Open the run of a sweep, again where it is resumed."""
    if resume:
        mlflow.end_run()  # that of `load`
        with mlflow.start_run(run_id=resume) as run:
            yield run
        return
    tags = run_tags() | {record.STEP: "tune"}
    with mlflow.active_run() or mlflow.start_run(run_name="sweep", tags=tags) as run:
        mlflow.set_tags(tags)
        yield run


@contextmanager
def interruptible(search: Search) -> Iterator[None]:
    """Let Ctrl-C end the search between two trials, so that each is logged whole or not at all."""

    def stop(*_) -> None:
        search.stopped = "Interrupted"

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def finish(study: optuna.Study, run_id: str) -> None:
    """Log pictures, page and best value of a sweep to its run."""
    if not sweep.complete(study):
        return
    pictures = sweep.figures(study)
    for name, figure in pictures.items():
        mlflow.log_figure(figure, f"plots/{name}.png")
    mlflow.log_text(sweep.page(study, pictures), "trials.html")
    mlflow.log_metrics({model.PRIMARY[0]: study.best_value, "trials": len(study.trials)})
    # As tags: a sweep that goes on may find better ones, and a run's params cannot change.
    mlflow.set_tags({f"best_{name}": str(value) for name, value in study.best_params.items()})
    record_files(run_id)


def best_of(study: optuna.Study) -> optuna.trial.FrozenTrial:
    """Return the best trial; raise `UserError` if none ended well."""
    if not sweep.complete(study):
        raise UserError(
            "No trial was measured on all folds, so nothing is trained: the runs of the trials say "
            "why, in their tag error."
        )
    return study.best_trial


def go_on(count: int, run) -> str:
    """Return what to type to go on with a sweep."""
    return f"Go on with: {command(MODEL)} tune --trials {count} --resume {run.info.run_id}"
