"""What `reproduce` says of an old run: what differs, what cannot be known, which metrics count."""

import math

import pytest

from {{ cookiecutter.__package }}.config import UserError
from {{ cookiecutter.__package }}.lifecycle import record, reproduce

THEN = record.Record("r1", {}, 0, {}, "late", [], "c0de", {}, {}, [])
TAGS = {"git": "none", "python": "3.13.1", "mlflow": "3.17.2"}
ORIGIN = {"packages.txt": "a==1\nb==1\n", "uv.lock": "x\n", "code.diff": "+one\n"}


@pytest.fixture(autouse=True)
def now(monkeypatch):
    """Make the present what the run was made with; return it, to be changed."""
    facts = {"tags": {**TAGS}, "then": {**ORIGIN}, "now": {**ORIGIN}, "code": "c0de"}
    monkeypatch.setattr(reproduce, "run_tags", lambda: facts["tags"] | {"process": "p"})
    monkeypatch.setattr(reproduce, "origin", lambda: facts["now"])
    monkeypatch.setattr(reproduce, "recorded", lambda run_id: facts["then"])
    monkeypatch.setattr(reproduce, "code_hash", lambda: facts["code"])
    return facts


def differences():
    """Return what differs between then and now."""
    return reproduce.differences(THEN, TAGS | {"process": "q"})


def test_the_same_is_said_only_when_it_is_known(now):
    assert differences() == ["Code, packages and Python are the same as then."]
    now["then"] = None
    assert len(differences()) == 1 and differences()[0].startswith("Unknown ")


def test_other_code_is_told_without_git(now):
    """Also where no file of the origin shows it, as with a commit, or a file that git ignores."""
    now["code"] = "0ther"
    assert differences() == ["Code     the files of the package differ"]
    now["now"]["code.diff"] = "+one\n+two\n"
    assert differences()[1] == "code.diff differs in 1 line"


def test_other_packages_and_another_python_are_told(now):
    now["tags"]["python"] = "3.14.0"
    now["now"]["packages.txt"] = "a==2\nb==1\n"
    del now["now"]["uv.lock"]
    assert differences() == [
        "Python   3.13.1 then, 3.14.0 now",
        "packages.txt: - a==1, + a==2 (- then, + now)",
        "uv.lock differs in 1 line",
    ]


def test_another_lock_is_told_at_once(now):
    for when, version in (("then", 1), ("now", 2)):
        now[when]["uv.lock"] = "\n".join(f"package-{n}=={version}.{n}" for n in range(5000))
    assert differences() == ["uv.lock differs in 10000 lines"]


def test_metrics_are_compared(capsys):
    nan = math.nan
    reproduce.compare({"a": nan, "b": 1.0}, {"a": nan, "b": 1.0 + 1e-9})
    assert "Reproduced, within 1e-06" in capsys.readouterr().out
    for now in ({"a": 1.0, "b": 1.0}, {"b": 1.0}, {"a": nan, "b": 1.1}, {"a": nan, "b": 1, "c": 1}):
        with pytest.raises(UserError, match="Not reproduced"):
            reproduce.compare({"a": nan, "b": 1.0}, now)
