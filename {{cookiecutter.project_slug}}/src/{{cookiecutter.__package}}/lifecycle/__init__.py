"""What happens to a model, from training to retraining: a module per command, and what they share.

skops comes before MLflow: when it is imported, it looks through all modules that are loaded.
"""

import skops.io  # noqa: F401
