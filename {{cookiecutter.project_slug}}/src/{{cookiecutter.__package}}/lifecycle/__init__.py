"""What happens to a model: one module for each command, and what these modules share.

skops comes before MLflow: when it is imported, it looks through all modules that are loaded.
"""

from ..ops.shell import importing

with importing():
    import skops.io  # noqa: F401
