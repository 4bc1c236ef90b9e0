"""own_methods.py: a user's method is known everywhere, without a change to this package.

test_host_sweep.py has it in a sweep of DomainBed itself.
"""

import json
import os
import shlex
import shutil
import textwrap
from pathlib import Path

import forked
import pytest
import test_register
import torch
from conftest import batches, make_image_folder, save_clip
from domainbed import algorithms, hparams_registry
from host_install import records, train_flags

from domainbed_carft import CARFT, Knob, add_method
from domainbed_carft.algorithms import methods, own_methods
from domainbed_carft.algorithms.base import CLIPAlgorithm
from domainbed_carft.base import environment
from domainbed_carft.method.knobs import number
from domainbed_carft.records.rows import Row, ordered

SOURCE = Path(__file__).parents[1]
EXAMPLE = SOURCE / "examples" / "own_method.py"


@pytest.fixture(autouse=True)
def untouched():
    """Leave the tables as they were."""
    rows, host = dict(methods.METHODS), dict(vars(algorithms))
    yield
    methods.METHODS.clear()
    methods.METHODS.update(rows)
    for name in set(vars(algorithms)) - set(host):
        delattr(algorithms, name)


def mine(base=CARFT, name="Mine"):
    return type(name, (base,), {"__module__": "their_module"})


def test_it_has_the_knobs_of_its_parent_and_its_own():
    add_method(mine(), {"my_gamma": Knob(0.5, number(0))}, {"carft_lambda": 2.0, "lr": 1e-4})
    found = hparams_registry.default_hparams("Mine", "PACS")
    carft = hparams_registry.default_hparams("CARFT", "PACS")
    assert found == {**carft, "my_gamma": 0.5, "carft_lambda": 2.0, "lr": 1e-4}
    with pytest.raises(ValueError, match="my_gamma must be a number >= 0, got -1"):
        methods.check("Mine", {**found, "my_gamma": -1})
    with pytest.raises(ValueError, match="did you mean my_gamma"):
        methods.check("Mine", {**found, "my_gama": 1})
    drawn = [hparams_registry.random_hparams(name, "PACS", 3) for name in ("Mine", "CARFT")]
    assert drawn[0]["carft_lambda"] == drawn[1]["carft_lambda"]  # by the knob's name


def test_it_comes_after_ours_in_tables():
    add_method(mine())
    rows = [Row(name) for name in ("AAA", "Mine", "CARFT", "CLIP_ERM")]
    assert [row.algorithm for row in ordered(rows)] == ["CLIP_ERM", "CARFT", "Mine", "AAA"]


def test_a_method_of_a_baseline_has_that_one_s_defaults():
    add_method(mine(algorithms.CLIP_CLIPood))
    found = hparams_registry.default_hparams("Mine", "PACS")
    assert found["clip_average"] == "beta" and found["clipood_lambda"] == 0.3
    add_method(type("Deeper", (algorithms.Mine,), {}), defaults={"clip_average": "none"})
    assert hparams_registry.default_hparams("Deeper", "PACS")["clip_average"] == "none"


def test_a_method_of_the_common_base_has_the_common_knobs():
    add_method(mine(CLIPAlgorithm))
    found = hparams_registry.default_hparams("Mine", "PACS")
    assert found == hparams_registry.default_hparams("CLIP_ERM", "PACS")


def test_added_again_the_later_one_counts():
    add_method(mine(), {"my_gamma": Knob(1.0)})
    again = mine()
    add_method(again, {"my_delta": Knob(2.0)})
    assert algorithms.get_algorithm_class("Mine") is again
    found = hparams_registry.default_hparams("Mine", "PACS")
    assert found["my_delta"] == 2.0 and "my_gamma" not in found


def test_a_second_try_that_is_refused_leaves_the_first():
    first = add_method(mine(), {"my_gamma": Knob(1.0)})
    with pytest.raises(TypeError, match="must be a Knob"):
        add_method(mine(), {"my_gamma": 1.0})
    assert methods.METHODS["Mine"].own is first


@pytest.mark.parametrize(
    "arguments, error",
    [
        ((torch.nn.Module,), "must be a subclass of CARFT"),
        (("Mine",), "must be a subclass of CARFT.*got 'Mine'"),
        ((mine(), {"my_gamma": 1.0}), "knob my_gamma of Mine must be a Knob, got 1.0"),
        (
            (mine(), {"carft_tau": Knob(1.0)}),
            r"carft_tau is already a knob \(to change its default",
        ),
        ((mine(), {"lp_l2": Knob(1.0)}), "lp_l2 is already a knob; choose another name"),
        ((mine(), {"batch_size": Knob(1)}), "batch_size is already a knob"),
        ((mine(), {"class_balanced": Knob(1)}), "class_balanced is already a knob"),
        ((mine(), {"My-Gamma": Knob(1)}), "names of knobs must look like my_gamma"),
        ((mine(), {"my_gamma": Knob(-1, number(0))}), "default of my_gamma must be a number >= 0"),
        ((mine(), {"my_gamma": Knob((1, 2))}), "must be a JSON value"),
        ((mine(), {"my_gamma": Knob(torch.ones(1))}), "must be a JSON value"),
        ((mine(), {}, {"carft_lamda": 1.0}), "Unknown inherited knob .*did you mean carft_lambda"),
        ((mine(), {}, {"carft_lambda": -1.0}), "default of carft_lambda must be a number >= 0"),
        ((mine(name="CLIP_ERM"),), "name CLIP_ERM is taken by car_ft:CLIP_ERM"),
        ((mine(name="CARFT"),), "name CARFT is taken"),
        ((mine(name="Algorithm"),), "name Algorithm is taken by DomainBed's own"),
    ],
)
def test_what_is_refused(arguments, error):
    names = list(methods.METHODS)
    with pytest.raises((TypeError, ValueError), match=error):
        add_method(*arguments)
    assert list(methods.METHODS) == names


def test_the_same_name_from_another_file_is_refused():
    add_method(mine())
    other = type("Mine", (CARFT,), {"__module__": "other_module"})
    with pytest.raises(ValueError, match="Mine is taken by their_module:Mine"):
        add_method(other)


def test_a_subclass_that_was_only_put_into_the_host_has_its_parent_s_knobs(monkeypatch):
    monkeypatch.setattr(algorithms, "Put", type("Put", (algorithms.CLIP_MIRO,), {}), raising=False)
    found = hparams_registry.default_hparams("Put", "PACS")
    assert found["miro_lambda"] == 1.0 and methods.METHODS["Put"].own is algorithms.Put


def test_the_example_s_loss(make, tiny_clip, contexts_file):
    own_methods._import(str(EXAMPLE), "the test")
    knobs = {"clip_frozen_precision": "fp32", "cosine_gamma": 0.0, "clip_backbone": tiny_clip}
    hparams = {**hparams_registry.default_hparams("CosineCARFT", "PACS"), **knobs}
    hparams.update(clip_contexts=contexts_file, lr=1e-3, clip_steps=8)
    plain, without = make("CARFT", clip_steps=8), make("CosineCARFT", hparams=dict(hparams))
    pulled = make("CosineCARFT", hparams={**hparams, "cosine_gamma": 10.0})
    for seed in range(4):
        expected = plain.update(batches(seed))
        found, close = without.update(batches(seed)), pulled.update(batches(seed))
        distance = found.pop("cosine_distance")
        assert found == pytest.approx(expected, abs=1e-6)
        total = close["ce"] + close["context_kl"] + 10 * close["cosine_distance"]
        assert close["loss"] == pytest.approx(total, abs=1e-5)
    assert 0 < close["cosine_distance"] < distance


def test_what_the_variable_names_must_be_there_and_add_something(monkeypatch, tmp_path):
    for text, error in (
        ("no/such.py", "DOMAINBED_CARFT_METHODS: no file .*no/such.py"),
        ("no_such_module_of_methods", "no_such_module_of_methods: ModuleNotFoundError: No module"),
    ):
        monkeypatch.setenv(environment.METHODS, text)
        with pytest.raises(ValueError, match=error):
            own_methods.load()
    for name, code, error in (
        ("empty", "x = 1", "adds no method: it must call domainbed_carft.add_method"),
        ("raises", "def f():\n    return 1 / 0\nf()", r"ZeroDivisionError: .*raises.py, line 2\)"),
        ("syntax", "class (", r"SyntaxError: .*syntax.py, line 1"),
    ):
        file = tmp_path / f"{name}.py"
        file.write_text(code)
        monkeypatch.setenv(environment.METHODS, str(file))
        with pytest.raises(ValueError, match=f"DOMAINBED_CARFT_METHODS: {file}: |{error}") as found:
            own_methods.load()
        assert found.match(error)


def test_several_files_each_once(monkeypatch, tmp_path):
    (tmp_path / "deeper").mkdir()
    text = "from domainbed_carft import CARFT, add_method\n"
    text += "class {0}(CARFT):\n    pass\nadd_method({0})"
    files = [tmp_path / "mine.py", tmp_path / "deeper" / "mine.py"]
    for file, name in zip(files, ("First", "Second")):
        file.write_text(text.format(name))
    monkeypatch.setenv(environment.METHODS, os.pathsep.join(map(str, [*files, files[0]])))
    own_methods.load()
    first = algorithms.First
    own_methods.load()
    assert algorithms.First is first and issubclass(algorithms.Second, CARFT)


def python(code, cwd, **environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DOMAINBED_CARFT_")}
    paths = os.pathsep.join([str(cwd), str(SOURCE)])
    settings = {"DOMAINBED_CARFT_HOST": "embedded", "PYTHONPATH": paths, **environment}
    return forked.run(["-c", textwrap.dedent(code)], cwd, {**kept, **settings})


def test_a_wrong_variable_ends_a_command_with_one_line(tmp_path):
    done = python("from domainbed_carft import CARFT", tmp_path, DOMAINBED_CARFT_METHODS="no.py")
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("domainbed_carft: DOMAINBED_CARFT_METHODS: no file ")


def test_an_installed_package_names_its_module_in_an_entry_point(tmp_path):
    (tmp_path / "their_module.py").write_text(EXAMPLE.read_text(encoding="utf-8"))
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[domainbed_carft.methods]\nx = their_module\n")
    code = """
        from domainbed_carft import CARFT
        from domainbed import algorithms, hparams_registry
        print(algorithms.CosineCARFT.__module__)
        print(hparams_registry.default_hparams("CosineCARFT", "PACS")["cosine_gamma"])
    """
    done = python(code, tmp_path)
    assert done.stdout.split() == ["their_module", "1.0"], done.stderr
    # by the variable, too: imported once
    done = python(code, tmp_path, DOMAINBED_CARFT_METHODS="their_module")
    assert done.stdout.split() == ["their_module", "1.0"], done.stderr
    (tmp_path / "their_module.py").write_text("import nothing_like_it")
    done = python(code, tmp_path)
    assert (
        "The entry point x of theirs (domainbed_carft.methods): their_module: Module" in done.stderr
    )


def test_a_file_that_is_run_is_not_imported_besides(tmp_path):
    file = tmp_path / "own.py"
    text = EXAMPLE.read_text(encoding="utf-8")
    file.write_text(f'print("read")\n{text}\nprint(CosineCARFT.__module__)\n')
    settings = {**os.environ, "PYTHONPATH": str(SOURCE), environment.METHODS: str(file)}
    done = forked.run([file], tmp_path, settings)
    assert done.stdout.split() == ["read", "__main__"], done.stderr


FORK = """
from domainbed_carft import CARFT

class Forked(CARFT):
    pass
"""
USE = """
    from domainbed import algorithms, hparams_registry
    from domainbed_carft.algorithms.methods import METHODS
    found = hparams_registry.default_hparams("Forked", "PACS")
    print(found["carft_lambda"], issubclass(algorithms.Forked, algorithms.CARFT))
    print("Forked" in METHODS, hasattr(algorithms, "CLIP_ERM"))
"""


@pytest.mark.parametrize("way", ["armed", "explicit", "off"])
@pytest.mark.parametrize("place", ["end", "below Algorithm"])
def test_a_subclass_in_the_algorithms_py_of_a_fork(tmp_path, place, way):
    theirs = textwrap.dedent(test_register.FAKE["algorithms.py"])
    top = theirs.replace("class ERM", f"{FORK}\nclass ERM")
    text = theirs + FORK if place == "end" else top
    test_register.write_package(tmp_path, {"algorithms.py": text})
    first = "from domainbed_carft.register import register\n    register()"
    done = test_register.python(
        f"    {first if way == 'explicit' else ''}{USE}",
        tmp_path,
        armed=way == "armed",
        DOMAINBED_CARFT_AUTOLOAD="0" if way == "off" else "1",
    )
    assert done.stdout.splitlines() == ["1.0 True", "True True"], done.stderr
    assert done.stderr == ""


def test_above_the_host_s_algorithm_python_allows_none(tmp_path):
    text = FORK + textwrap.dedent(test_register.FAKE["algorithms.py"])
    test_register.write_package(tmp_path, {"algorithms.py": text})
    done = test_register.python("import domainbed.algorithms", tmp_path)
    assert "ImportError: domainbed_carft.CARFT needs domainbed.algorithms.Algorithm" in done.stderr
    assert "import it below that class" in done.stderr


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with Birds and a tiny CLIP, and --hparams that name it."""
    root = tmp_path_factory.mktemp("own")
    make_image_folder(root / "Birds", domains=("ink", "photo"), n=6)
    (root / "contexts.txt").write_text("a photo of a {}\na sketch of a {}\n")
    knobs = {"clip_backbone": save_clip(root / "tiny.pt"), "batch_size": 2}
    knobs["clip_contexts"] = str(root / "contexts.txt")
    return root, shlex.quote(json.dumps({**knobs, "cosine_gamma": 2.0}))


SWEEP = (
    "launch --algorithms CosineCARFT --datasets Birds --n_trials 1 --n_hparams 1 --steps 2 "
    "--single_test_envs --skip_confirmation --command_launcher local --data_dir none "
    "--output_dir {out} --hparams {hparams}"
)


def shell(command, cwd, **environment):
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    settings = {"PYTHONPATH": str(SOURCE), "DOMAINBED_CARFT_N_WORKERS": "0", **environment}
    done = forked.run(shlex.split(command)[1:], cwd, {**kept, **settings})
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
def test_the_example_in_a_sweep_of_the_embedded_host_and_its_tables(small, tmp_path):
    out = tmp_path / "out"
    own = {environment.METHODS: str(EXAMPLE), "DOMAINBED_CARFT_HOST": "embedded"}
    own["DOMAINBED_CARFT_DATASETS"] = str(small[0] / "Birds")
    flags = SWEEP.format(out=out, hparams=small[1])
    shell(f"python -m domainbed_carft.sweep {flags}", tmp_path, **own)
    found = [records(path.parent)[-1] for path in sorted(out.glob("*/done"))]
    assert len(found) == 2
    for record in found:
        assert record["hparams"]["cosine_gamma"] == 2.0 and record["cosine_distance"] >= 0
    tables = shell(f"python -m domainbed_carft.collect_results --input_dir {out}", tmp_path, **own)
    assert "CosineCARFT" in tables.partition("training-domain validation")[2]
    # analyses of weights, and pictures
    said = shell(
        f"python -m domainbed_carft.wise_ft --input_dir {out} --alphas 0 1", tmp_path, **own
    )
    assert "CosineCARFT" in said and "left out" not in said
    said = shell(f"python -m domainbed_carft.probe --input_dir {out}", tmp_path, **own)
    assert "CosineCARFT" in said


@pytest.mark.host
@pytest.mark.parametrize("command", ["domainbed.scripts.train", "domainbed_carft.train"])
def test_a_subclass_in_a_copy_of_domainbed(here, real_host, files, tmp_path, command):
    shutil.copytree(real_host / "domainbed", tmp_path / "domainbed")
    with open(tmp_path / "domainbed" / "algorithms.py", "a", encoding="utf-8") as file:
        file.write(FORK)
    flags = train_flags(files, tmp_path / "out", "Forked")
    done = here.run(f"python -m {command} {flags}", tmp_path, DOMAINBED_CARFT_N_WORKERS="0")
    assert "not registered" not in done.stderr
    first, last = records(tmp_path / "out")
    assert first["context_kl"] == 0 and last["args"]["algorithm"] == "Forked"
    origin = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert origin["host"] == "domainbed" and origin["weights_sha256"]
