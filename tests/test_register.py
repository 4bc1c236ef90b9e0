"""register.py: the seam, on fake packages named `domainbed` on disk, in fresh interpreters."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import forked
import pytest

import domainbed_carft
from domainbed_carft import register

SOURCE = str(Path(domainbed_carft.__file__).parents[1])

FAKE = {
    "__init__.py": "",
    "algorithms.py": """
        import torch
        ALGORITHMS = ["ERM"]
        class Algorithm(torch.nn.Module):
            def __init__(self, input_shape, num_classes, num_domains, hparams):
                super().__init__()
                self.hparams = hparams
            def update(self, minibatches, unlabeled=None):
                raise NotImplementedError
        class ERM(Algorithm):
            pass
        def get_algorithm_class(name):
            return globals()[name]
    """,
    "datasets.py": """
        DATASETS = ["Debug28", "PACS"]
        class MultipleDomainDataset:
            N_STEPS, N_WORKERS, ENVIRONMENTS = 5001, 8, None
            def __getitem__(self, i):
                return self.datasets[i]
            def __len__(self):
                return len(self.datasets)
        class MultipleEnvironmentImageFolder(MultipleDomainDataset):
            def __init__(self, root, test_envs, augment, hparams):
                pass
        def get_dataset_class(name):
            return globals()[name]
    """,
    "hparams_registry.py": """
        def _hparams(algorithm, dataset, random_seed):
            import numpy as np
            dropout = np.float64(0.1)
            return {"lr": (5e-5, 1e-4), "batch_size": (32, 8), "vit_dropout": (0.0, dropout)}
        def default_hparams(algorithm, dataset):
            return {k: v[0] for k, v in _hparams(algorithm, dataset, 0).items()}
        def random_hparams(algorithm, dataset, seed):
            return {k: v[1] for k, v in _hparams(algorithm, dataset, seed).items()}
    """,
    "command_launchers.py": "REGISTRY = {'local': print}",
    "lib/__init__.py": "",
    "lib/fast_data_loader.py": """
        class InfiniteDataLoader:
            def __init__(self, dataset, weights, batch_size, num_workers):
                pass
    """,
}


def write_package(folder, changes=None):
    for name, text in {**FAKE, **(changes or {})}.items():
        if text is not None:
            file = folder / "domainbed" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text))
    return folder


def python(code, cwd, armed=True, flags=(), **environment):
    """Run code in a fresh Python in cwd, armed as the start-up file does."""
    start = "import domainbed_carft.register as r; r.arm(); r.arm()\n" if armed else ""
    base = {k: v for k, v in os.environ.items() if not k.startswith("DOMAINBED_")}
    environment = {**base, "PYTHONPATH": SOURCE, **environment}
    if not flags:
        return forked.run(["-c", start + textwrap.dedent(code)], cwd, environment)
    return subprocess.run(
        [sys.executable, *flags, "-c", start + textwrap.dedent(code)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    return write_package(tmp_path_factory.mktemp("fake"))


def test_a_plain_import_finds_our_algorithms_and_data_sets(fake):
    run = python(
        """
        from domainbed import datasets, hparams_registry, algorithms, command_launchers
        print(algorithms.get_algorithm_class("CARFT").__name__, algorithms.ALGORITHMS)
        print(datasets.get_dataset_class("DigitStyles").__name__, datasets.DATASETS[:3])
        print([d for d in datasets.DATASETS if "Debug" not in d])
        print(sorted(command_launchers.REGISTRY))
        """,
        fake,
    )
    assert run.stdout.splitlines() == [
        "CARFT ['ERM']",
        "DigitStyles ['Debug28', 'PACS', 'DigitStyles']",
        "['PACS']",
        "['carft_local', 'carft_multi_gpu', 'carft_ray', 'carft_slurm', 'local']",
    ], run.stderr


def test_other_algorithms_keep_their_hparams_and_ours_get_theirs(fake):
    run = python(
        """
        from domainbed import algorithms, hparams_registry
        print(hparams_registry.default_hparams("ERM", "PACS"))
        ours = hparams_registry.default_hparams("CARFT", "PACS")
        print(ours["lr"], ours["batch_size"], ours["vit_dropout"], ours["carft_lambda"])
        for name in ("ERM", "CARFT"):
            print(type(hparams_registry.random_hparams(name, "PACS", 1)["vit_dropout"]).__name__)
        """,
        fake,
    )
    assert run.stdout.splitlines() == [
        "{'lr': 5e-05, 'batch_size': 32, 'vit_dropout': 0.0}",
        "5e-06 32 0.0 1.0",
        "float64",
        "float",
    ], run.stderr


def test_a_module_that_is_loaded_again_has_ours_again_once(fake):
    run = python(
        """
        from importlib import reload
        from domainbed import algorithms, command_launchers, datasets, hparams_registry
        for module in (datasets, hparams_registry, algorithms, command_launchers):
            reload(module)
        print(hparams_registry.default_hparams("CARFT", "PACS")["carft_lambda"])
        print(hparams_registry.default_hparams("ERM", "PACS"))
        print(datasets.DATASETS, algorithms.get_algorithm_class("CARFT").__name__)
        print("carft_local" in command_launchers.REGISTRY)
        """,
        fake,
    )
    assert (run.stderr, run.stdout.splitlines()[:2]) == (
        "",
        ["1.0", "{'lr': 5e-05, 'batch_size': 32, 'vit_dropout': 0.0}"],
    )
    assert run.stdout.splitlines()[2].count("'DigitStyles'") == 1
    assert run.stdout.splitlines()[2].endswith("CARFT") and run.stdout.splitlines()[3] == "True"


def test_switched_off(fake):
    run = python(
        "import domainbed.algorithms as a; print(hasattr(a, 'CARFT'))",
        fake,
        DOMAINBED_CARFT_AUTOLOAD="0",
    )
    assert run.stdout.strip() == "False"


def test_register_works_without_arming_before_and_after_the_import_and_twice(fake):
    run = python(
        """
        import domainbed.hparams_registry as h
        from domainbed_carft.register import register
        register(); register()
        import domainbed.algorithms as a
        print(hasattr(a, "CARFT"), "carft_lambda" in h.default_hparams("CARFT", "PACS"))
        inner = h.default_hparams.__wrapped__
        print(inner.__module__, hasattr(inner, "__wrapped__"))
        """,
        fake,
        armed=False,
        DOMAINBED_CARFT_AUTOLOAD="0",
    )
    assert run.stdout.splitlines() == ["True True", "domainbed.hparams_registry False"], run.stderr


@pytest.mark.parametrize(
    "changes, lacking",
    [
        ({"datasets.py": "DATASETS = []"}, "has no MultipleDomainDataset"),
        ({"algorithms.py": FAKE["algorithms.py"].replace("minibatches", "x, y")}, "minibatches"),
        ({"hparams_registry.py": "def default_hparams(a, d): pass"}, "random_hparams"),
    ],
)
def test_another_project_s_domainbed_is_left_alone_with_one_line(tmp_path, changes, lacking):
    write_package(tmp_path, changes)
    run = python(
        """
        import domainbed.hparams_registry, domainbed.algorithms
        """,
        tmp_path,
    )
    assert run.returncode == 0
    (line,) = run.stderr.strip().splitlines()
    assert "not registered" in line and lacking in line


def test_explicitly_another_project_s_domainbed_is_an_error_that_says_what_to_do(tmp_path):
    write_package(tmp_path, {"datasets.py": None})
    run = python("from domainbed_carft.register import register; register()", tmp_path, armed=False)
    assert "cannot be used with domainbed_carft: it has no datasets.py" in run.stderr
    assert "DOMAINBED_CARFT_HOST=embedded" in run.stderr


def test_without_a_domainbed_the_embedded_host_takes_its_place(tmp_path):
    run = python(
        """
        from domainbed_carft.register import find_host, register
        print(find_host()[0])
        register()
        from domainbed import algorithms
        print(find_host()[0], algorithms.__file__.split("/")[-2], algorithms.CARFT.__name__)
        """,
        tmp_path,
        armed=False,
    )
    assert run.stdout.splitlines() == ["embedded", "embedded embedded CARFT"], run.stderr


def test_a_bare_folder_called_domainbed_is_no_host(tmp_path):
    (tmp_path / "domainbed").mkdir()
    run = python("from domainbed_carft.register import find_host; print(find_host()[0])", tmp_path)
    assert run.stdout.strip() == "embedded", run.stderr


def test_an_algorithm_of_the_host_with_our_name_stays(tmp_path):
    theirs = textwrap.dedent(FAKE["algorithms.py"]) + "class CARFT(Algorithm):\n    theirs = True\n"
    write_package(tmp_path, {"algorithms.py": theirs})
    run = python("import domainbed.algorithms as a; print(a.CARFT.theirs)", tmp_path)
    assert run.stdout.strip() == "True"
    assert "its own CARFT" in run.stderr


def test_arming_imports_next_to_nothing():
    code = (
        "import os, sys; before = set(sys.modules); import domainbed_carft.register as r; r.arm();"
        "print(sorted(set(sys.modules) - before))"
    )
    run = python(code, SOURCE, armed=False, flags=["-S"])  # no start-up files before it
    assert run.stdout.strip() == "['domainbed_carft', 'domainbed_carft.register']", run.stderr


def test_a_bare_start_takes_at_most_2_ms_more(tmp_path):
    code = (
        "import os, time; t = time.perf_counter();"
        "import domainbed_carft.register as r; r.arm();"
        "print(time.perf_counter() - t)"
    )
    compiled = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}  # as pip does
    runs = [python(code, SOURCE, armed=False, flags=["-S"], **compiled) for _ in range(10)]
    assert min(float(run.stdout) for run in runs) < 0.002


@pytest.mark.parametrize("module", ["data.describe", "data.tasks", "algorithms.baselines"])
def test_after_register_our_modules_can_be_imported_in_any_order(module):
    code = f"import domainbed_carft.register as r; r.register(); import domainbed_carft.{module}"
    environment = {**os.environ, "PYTHONPATH": SOURCE, "DOMAINBED_CARFT_HOST": "embedded"}
    done = forked.run(["-c", code], env=environment)
    assert done.returncode == 0, done.stderr


def test_known_datasets_are_the_host_s_and_ours():
    known = register.known_datasets()
    assert known["PACS"] == (("A", "C", "P", "S"), 5001)
    assert known["DigitStyles"] == (("scan", "print", "sign", "sketch"), 201)


def test_a_host_that_cannot_be_imported_is_named(monkeypatch):
    def fails():
        raise ImportError("no x")

    monkeypatch.setattr(register, "register_for_tables", fails)
    with pytest.raises(RuntimeError, match="no x.*DOMAINBED_CARFT_HOST=embedded"):
        register.known_datasets()


def test_a_checkout_without_init_is_a_host_and_a_folder_of_results_is_none(tmp_path):
    write_package(tmp_path, {"__init__.py": None, "lib/__init__.py": None})
    (tmp_path / "other" / "domainbed" / "sweep").mkdir(parents=True)
    code = """
        from domainbed_carft.register import find_host
        import domainbed.algorithms as a
        print(find_host()[0], a.CARFT.__name__)
        """
    assert python(code, tmp_path).stdout.split() == ["domainbed", "CARFT"]
    code = "from domainbed_carft.register import find_host; print(find_host()[0])"
    assert python(code, tmp_path / "other").stdout.split() == ["embedded"]


def test_a_host_whose_modules_import_each_other_is_hooked_when_they_are_whole(tmp_path):
    loader = FAKE["lib/fast_data_loader.py"].replace("Infinite", "Fast")  # its own affair
    circle = "from domainbed.lib.fast_data_loader import FastDataLoader\n"
    datasets = circle + "import domainbed.algorithms\n" + textwrap.dedent(FAKE["datasets.py"])
    changes = {"datasets.py": datasets, "command_launchers.py": None}
    write_package(tmp_path, {**changes, "lib/fast_data_loader.py": loader})
    for first in ("datasets", "algorithms", "lib.fast_data_loader", "hparams_registry"):
        run = python(
            f"""
            import domainbed.{first}
            import domainbed.algorithms as a, domainbed.datasets as d
            import domainbed.hparams_registry as h
            print(a.CARFT.__name__, d.DigitStyles.__name__, "clip_beta" in h.default_hparams(
                "CARFT", "PACS"))
            """,
            tmp_path,
        )
        assert run.stdout.split() == ["CARFT", "DigitStyles", "True"], run.stderr
        assert run.stderr == ""


def test_a_hook_that_raises_is_taken_out_with_one_line_and_the_host_goes_on(fake):
    run = python(
        """
        import domainbed.hparams_registry as h
        from domainbed_carft import hooks
        def broken(module):
            hooks.write(module, "ours", 1)
            raise KeyError("x")
        hooks.hook_datasets = broken
        import domainbed.algorithms as a, domainbed.datasets as d
        print(hasattr(a, "CARFT"), hasattr(d, "ours"), hasattr(h.default_hparams, "__wrapped__"))
        print(h.default_hparams("ERM", "PACS")["lr"])
        """,
        fake,
    )
    assert run.stdout.split() == ["False", "False", "False", "5e-05"], run.stderr
    (line,) = run.stderr.strip().splitlines()
    assert "works without it: the hook on domainbed.datasets failed with KeyError" in line


@pytest.mark.parametrize(
    "datasets, sentence",
    [
        ("import a_package_of_nobody", "it imports a_package_of_nobody, which is not installed"),
        ("from torch import a_name_of_nobody", "its import fails with ImportError: cannot import"),
        ("1 / 0", "its import fails with ZeroDivisionError: division by zero"),
    ],
)
def test_doctor_names_what_a_host_s_import_lacks(tmp_path, datasets, sentence):
    write_package(tmp_path, {"datasets.py": datasets})
    run = python("from domainbed_carft.commands import doctor; doctor.main([])", tmp_path)
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert f"PROBLEM: the host cannot be used: {sentence}" in run.stdout
