"""Rows as they come: values, files and columns that are odd, in the project's own functions."""

import pytest

pytestmark = pytest.mark.slow


def test_another_lock_is_told_at_once_and_an_undefined_metric_is_the_same_again(uv_project):
    told = uv_project.python("""
from types import SimpleNamespace as Named
from my_ml_project.lifecycle import reproduce
old, new = ("\\n".join(f"package-{n}=={v}.{n}" for n in range(5000)) for v in (1, 2))
reproduce.artifacts.list_artifacts = lambda **kwargs: [Named(path="origin/uv.lock")]
reproduce.recorded = lambda run_id, name: old
reproduce.origin = lambda: {"uv.lock": new}
then = Named(info=Named(run_id="1"), data=Named(tags=reproduce.run_tags()))
print(reproduce.differences(then))
nan = float("nan")
reproduce.compare({"a": nan, "b": 1.0}, {"a": nan, "b": 1.0 + 1e-9})
try:
    reproduce.compare({"a": nan, "b": 1.0}, {"b": 1.0})
except reproduce.UserError as error:
    print(error)""").splitlines()
    assert told[0] == "['uv.lock: 10000 lines ... (- then, + now)']"
    assert "Reproduced, within 1e-06" in told
    assert told[-1] == "Not reproduced: a differ by more than 1e-06."
