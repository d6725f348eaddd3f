"""For your own scripts and notebooks: MLflow, which logs into this project's history.

    from my_project.tracking import mlflow

Raises `UserError` if the server does not run. With `import mlflow` alone, MLflow would make another
history in the current folder.
"""

from .config import EXPERIMENT
from .ops import ownership

ADDRESS = ownership.connect()

import mlflow  # noqa: E402  (it reads the address when it is imported)

mlflow.set_experiment(EXPERIMENT)
