"""What happens to a model: one module for each command, and what these modules share.

skops comes before MLflow: when it is imported, it looks through all modules that are loaded. What
its import makes is not looked through for garbage again: that took an eighth of `train`.
"""

import gc

gc.disable()
import skops.io  # noqa: E402, F401

gc.freeze()
gc.enable()
