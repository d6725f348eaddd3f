"""What happens to a model: one module for each command, and what these modules share.

`scipy.special` and skops are imported before anything else. At its import, skops looks for each
function of `scipy.special` in all modules that were imported before that one.
"""

from ..ops.shell import importing

with importing():
    import scipy.special  # noqa: F401
    import skops.io  # noqa: F401
