"""Rows as they come: values, files and columns that are odd, in the project's own functions."""

import pytest

pytestmark = pytest.mark.slow


