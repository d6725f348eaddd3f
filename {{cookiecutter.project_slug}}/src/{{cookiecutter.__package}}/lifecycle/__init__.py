"""What happens to a model: one module for each command, and what these modules share.

SciPy's functions come before skops, and skops before MLflow: when skops is imported, it looks for
each of these functions in all modules that were loaded before theirs.
"""

from ..ops.shell import importing

with importing():
    import scipy.special  # noqa: F401
    import skops.io  # noqa: F401
