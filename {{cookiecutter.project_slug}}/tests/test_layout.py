"""Imports point one way: config, data, model <- ops <- lifecycle <- cli."""

import ast
import importlib
import pkgutil
from pathlib import Path

import {{ cookiecutter.__package }} as package

FLOORS = {"config": 0, "data": 0, "model": 0, "ops": 1, "lifecycle": 2, "cli": 3, "tracking": 3}
COMMANDS = {"train", "tune", "promote", "predict", "serve", "monitor", "reproduce"}
# What a command may use of another one.
ALLOWED = {"monitor": {"train", "promote"}, "tune": {"train"}, "reproduce": {"train"}}
MODULES = [one.name for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]


def imports(name: str) -> set[tuple[str, ...]]:
    """Return the modules of this project that a module imports, anywhere, as parts below it."""
    spec = importlib.util.find_spec(name)
    found = set()
    for node in ast.walk(ast.parse(Path(spec.origin).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            inside = spec.submodule_search_locations is not None
            above = name.split(".")[: len(name.split(".")) - node.level + inside]
            place = [*above, *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                whole = ".".join([*place, alias.name])
                found.add(tuple((whole if whole in MODULES else ".".join(place)).split(".")[1:]))
    return found


def test_imports_point_one_way():
    for name in MODULES:
        parts = tuple(name.split(".")[1:])
        for other in filter(None, imports(name)):
            told = f"{'.'.join(parts)} imports {'.'.join(other)}"
            assert FLOORS[other[0]] <= FLOORS[parts[0]], told
            if parts[0] == "ops":
                assert other[0] not in ("data", "model"), told
            if parts[0] == other[0] == "lifecycle" and other[-1] in COMMANDS - {parts[-1]}:
                assert other[-1] in ALLOWED.get(parts[-1], set()), told


def test_no_imports_go_round():
    left = {name: {".".join([package.__name__, *one]) for one in imports(name)} for name in MODULES}
    while free := [name for name, needs in left.items() if not needs & left.keys() - {name}]:
        for name in free:
            del left[name]
    assert not left
