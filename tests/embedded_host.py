"""The embedded host under the name `domainbed`, without the package's register()."""

import importlib.util
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "domainbed_carft" / "embedded"


def load():
    """Make embedded/ importable as `domainbed` in this process, unless something is already."""
    if "domainbed" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "domainbed", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
        )
        sys.modules["domainbed"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["domainbed"])


def run(script):
    """Run one of its scripts as a program, with the arguments of this process."""
    import runpy

    load()
    runpy.run_module(f"domainbed.scripts.{script}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    run(sys.argv.pop(1))
