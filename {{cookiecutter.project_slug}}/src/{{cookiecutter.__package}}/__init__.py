"""Train, register and look after the models of this project."""

from . import config as config  # before MLflow, which decides some settings at its own import
