"""The rooms of the package: imports go down only, and in no circle (docs/architecture.md)."""

import ast
import sys
from pathlib import Path

import pytest

import domainbed_carft

PACKAGE = "domainbed_carft"
ROOT = Path(domainbed_carft.__file__).parent
# Each room, and the rooms that it may import from; a file of the top level is a room of its own.
MAY = {
    "base": set(),
    "contract": {"base"},
    "engines": {"contract", "base"},
    "method": {"contract", "base"},
    "models": {"method", "contract", "base"},
    "data": {"models", "method", "contract", "base"},  # a CLIP's own resizing
    "algorithms": {"data", "models", "method", "contract", "base"},
    "hooks": {"engines", "algorithms", "data", "contract", "base"},
    "register": {"hooks", "engines", "algorithms", "data", "contract", "base"},
    "records": {"engines", "register", "algorithms", "method", "contract", "base"},
    "analysis": {
        "records",
        "register",
        "algorithms",
        "data",
        "models",
        "method",
        "contract",
        "base",
    },
    "reports": {"records", "register", "algorithms", "method", "contract", "base"},
    "embedded": {"contract", "base"},
}
MAY["commands"] = {room for room in MAY if room != "embedded"}
TOP = {"__main__", "cli", "moved", "public"}  # entrances: they may import anything
TOP |= {path.stem for path in ROOT.glob("*.py") if (ROOT / "commands" / path.name).is_file()}
HOST = {"algorithms", "data", "analysis", "hooks", "register", "commands"}  # may import `domainbed`


def modules(root):
    """Return {dotted name within the package: path} of its Python files."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name, path, known):
    """Return (modules of the package, other top-level packages) that a file imports, anywhere."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    package = [part for part in package if part]
    ours, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            start = [PACKAGE, *start] if node.level else start
            base = [*start, *(node.module.split(".") if node.module else [])]
            targets = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for target in targets:
            if target[0] != PACKAGE:
                others.add(target[0])
                continue
            inner = target[1:]
            while inner and ".".join(inner) not in known:
                inner = inner[:-1]  # a name in a module
            ours.add(".".join(inner))
    return ours - {name}, others


def room(name):
    return name.split(".")[0]


def wrong_arrows(root):
    """Return a sentence for each import that goes up, or into a room that has no business there."""
    known = modules(root)
    found = []
    for name, path in known.items():
        here = room(name)
        if here in {"", *TOP}:
            continue
        ours, others = imports(name, path, known)
        for other in sorted(ours - {""}):
            if room(other) != here and room(other) not in MAY.get(here, set()):
                found.append(f"{name} imports {other}")
        if "domainbed" in others and here not in HOST:
            found.append(f"{name} imports domainbed")
    return found


def circles(root):
    """Return the modules that import each other, directly or not."""
    known = modules(root)
    arrows = {name: imports(name, path, known)[0] - {""} for name, path in known.items()}
    # register imports our modules inside functions when the host is there; nothing of them is
    # needed to import it, so it is a room below its users and above what it registers
    for name in ("", *TOP):
        arrows.pop(name, None)
    reached = {}

    def reach(name, seen):
        for other in arrows.get(name, ()):
            if other not in seen:
                seen.add(other)
                reach(other, seen)
        return seen

    for name in arrows:
        reached[name] = reach(name, set())
    return sorted(name for name in arrows if name in reached[name])


def test_every_import_goes_down():
    assert wrong_arrows(ROOT) == []


def test_no_circle_of_files():
    assert circles(ROOT) == []


def test_every_room_is_known():
    rooms = {room(name) for name in modules(ROOT)} - {""} - TOP
    assert rooms == set(MAY)


@pytest.mark.parametrize(
    "file, line, arrow",
    [
        ("base/stats.py", "from ..reports import plots", "base.stats imports reports.plots"),
        ("method/losses.py", "import domainbed", "method.losses imports domainbed"),
        (
            "embedded/lib/misc.py",
            "from domainbed_carft.models import encoders",
            "embedded.lib.misc imports models.encoders",
        ),
        (
            "records/scan.py",
            "def f():\n    from ..reports.tables import save",
            "records.scan imports reports.tables",
        ),
    ],
)
def test_one_forbidden_import_is_found(tmp_path, file, line, arrow):
    for path in ROOT.rglob("*.py"):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / file).write_text((tmp_path / file).read_text() + f"\n\n{line}\n")
    assert wrong_arrows(tmp_path) == [arrow]


def test_a_circle_is_found(tmp_path):
    (tmp_path / "base").mkdir()
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        (tmp_path / "base" / f"{name}.py").write_text(f"def f():\n    from . import {other}\n")
    assert circles(tmp_path) == ["base.a", "base.b", "base.c"]


def test_what_runs_at_python_s_start_is_of_the_standard_library_only():
    for name in ("__init__", "register"):
        tree = ast.parse((ROOT / f"{name}.py").read_text(encoding="utf-8"))
        top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        found = {alias.name for node in top for alias in node.names}
        assert found <= {"os", "sys"} and found <= set(sys.stdlib_module_names)
