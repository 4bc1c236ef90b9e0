"""The real, unmodified DomainBed: commands as typed, tables. Skipped without a checkout.

Most run in forks (see forked.py). The package is installed in virtual environments that see this
one's packages, so that the start-up files are tested too: as editable here, with `carft doctor`,
and regularly in test_host_sweep.py, with sweep and train.
"""

import json
import re

import pytest
from conftest import make_image_folder
from host_install import SOURCE, Environment, jobs, records, status, train_flags
from synthetic_sweep import make_sweep

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def editable(tmp_path_factory):
    return Environment(tmp_path_factory.mktemp("editable"), "--editable")


@pytest.mark.parametrize(
    "module, autoload", [("domainbed.scripts.train", "1"), ("domainbed_carft.train", "0")]
)
def test_train_on_an_image_folder(here, real_host, files, tmp_path, module, autoload):
    """DomainBed's own, and the explicit command without a start-up file."""
    before = status(real_host)
    command = f"python -m {module} " + train_flags(files, tmp_path / "out")
    variables = {"DOMAINBED_CARFT_AUTOLOAD": autoload, "DOMAINBED_CARFT_N_WORKERS": "0"}
    here.run(command, real_host, **variables)
    assert (tmp_path / "out" / "done").exists()
    first, last = records(tmp_path / "out")
    assert (first["step"], last["step"]) == (0, 2)
    assert first["context_kl"] == 0 and last["context_kl"] > 0
    origin = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert origin["host"] == "domainbed" and origin["weights_sha256"]
    assert status(real_host) == before


def test_the_explicit_sweep_reports_a_failing_job(here, real_host, tmp_path):
    data = make_image_folder(tmp_path / "Birds", domains=("ink", "photo"))
    done = here.run(
        "python -m domainbed_carft.sweep launch --algorithms CARFT --datasets Birds "
        "--single_test_envs --n_trials 1 --n_hparams 1 --steps 1 --data_dir none "
        "--skip_confirmation --command_launcher local "
        '--hparams \'{"clip_backbone": "no/x.pt", "batch_size": 4}\' '
        f"--output_dir {tmp_path / 'out'}",
        real_host,
        check=False,
        DOMAINBED_CARFT_AUTOLOAD="0",
        DOMAINBED_CARFT_DATASETS=str(data),
        DOMAINBED_CARFT_N_WORKERS="0",
    )
    assert done.returncode == 1
    assert "2 of 2 jobs failed" in done.stderr
    for job in jobs(tmp_path / "out"):
        assert "No weights file no/x.pt" in (job / "err.txt").read_text()


def test_the_explicit_sweep_checks_names_first(here, real_host, tmp_path):
    done = here.run(
        "python -m domainbed_carft.sweep launch --algorithms CARFFT --datasets PACS "
        f"--data_dir none --command_launcher local --output_dir {tmp_path}/out",
        real_host,
        check=False,
    )
    assert done.returncode == 2 and "did you mean CARFT" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_explicit_sweep_checks_its_folder_first(here, real_host, tmp_path):
    (tmp_path / "file").touch()
    done = here.run(
        "python -m domainbed_carft.sweep launch --algorithms CARFT --datasets PACS "
        f"--data_dir none --command_launcher local --output_dir {tmp_path}/file/out",
        real_host,
        check=False,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"error: --output_dir: {tmp_path}/file/out cannot be written (" in done.stderr


def test_other_algorithms_keep_their_hparams_and_default_sweeps_stay(here, real_host):
    code = (
        "import json; from domainbed import algorithms as a, hparams_registry as h;"
        "from domainbed.scripts import sweep;"
        "print(json.dumps([[n, d, h.default_hparams(n, d), h.random_hparams(n, d, 7)]"
        " for n in a.ALGORITHMS for d in ('PACS', 'DomainNet', 'RotatedMNIST')], default=float));"
        "print(sweep.DATASETS, a.ALGORITHMS)"
    )
    with_us = here.run(f'python -c "{code}"', real_host).stdout
    without = here.run(f'python -c "{code}"', real_host, DOMAINBED_CARFT_AUTOLOAD="0").stdout
    assert with_us == without and len(with_us) > 1000


def test_random_hparams_of_ours_are_plain_values(here, real_host):
    code = (
        "import json; from domainbed import hparams_registry as h;"
        "print(json.dumps([type(v).__name__ for n in ('CARFT', 'CLIP_ERM') for s in range(9)"
        " for v in h.random_hparams(n, 'PACS', s).values()]))"
    )
    types = json.loads(here.run(f'python -c "{code}"', real_host).stdout)
    assert set(types) == {"bool", "float", "int", "str"}


@pytest.mark.parametrize("module", ["domainbed.scripts.train", "domainbed_carft.train"])
def test_holdout_of_0_is_one_line(here, real_host, files, tmp_path, module):
    """DomainBed itself would crash at its first record, after the training steps."""
    command = f"python -m {module} " + train_flags(files, tmp_path / "out")
    variables = {"DOMAINBED_CARFT_N_WORKERS": "0"}
    done = here.run(f"{command} --holdout_fraction 0", real_host, check=False, **variables)
    assert done.returncode != 0
    last = (done.stdout + done.stderr).strip().splitlines()[-1]  # DomainBed copies to stdout
    assert "--holdout_fraction must be > 0 and < 1, got 0" in last
    assert not (tmp_path / "out" / "results.jsonl").exists()


def test_collect_results_on_one_run_s_folder_is_one_line(here, real_host, tmp_path):
    (_, folder), *_ = make_sweep(tmp_path, algorithms=("CARFT",), trials=1)
    words = f"python -m domainbed_carft.collect_results --input_dir {folder}"
    done = here.run(words, real_host, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "is the folder of one run: give the folder that" in done.stderr.splitlines()[-1]


def test_an_image_that_cannot_be_read_is_the_last_line(here, real_host, files, tmp_path):
    root = make_image_folder(tmp_path / "data" / "PACS", n=8, size=32)
    for path in (root / "photo").rglob("*.png"):
        path.write_bytes(b"junk")
    flags = train_flags(files, tmp_path / "out").replace(f"{files}/data", str(root.parent))
    variables = {"DOMAINBED_CARFT_N_WORKERS": "0"}
    words = f"python -m domainbed.scripts.train {flags}"
    done = here.run(words, real_host, check=False, **variables)
    assert done.returncode != 0
    last = (done.stdout + done.stderr).strip().splitlines()[-1]  # DomainBed copies to stdout
    assert "photo/" in last and "(4 bytes) is no image that can be read" in last


def test_its_downloader_has_what_it_imports_and_the_functions_that_we_name(here, real_host):
    section = (SOURCE / "docs" / "datasets.md").read_text().split("## DomainBed's five")[1]
    named = sorted(set(re.findall(r"download_\w+", section.split("\n## ")[0])))
    code = f"from domainbed.scripts import download as d; {', '.join(f'd.{n}' for n in named)}"
    assert len(named) == 5
    here.run(f'python -c "{code}"', real_host)


@pytest.mark.parametrize(
    "command, kind", [("carft doctor", "editable"), ("python -m domainbed_carft.doctor", "here")]
)
def test_doctor_finds_the_host_well(request, real_host, command, kind):
    out = request.getfixturevalue(kind).run(command, real_host).stdout
    assert f"Host: domainbed at {real_host / 'domainbed'}" in out
    assert out.count(": hooked") == 5
    assert "Hooks at Python's start: on" in out
    assert out.rstrip().endswith("No problems found.")


def test_splits_are_the_same_index_for_index(here, real_host, tmp_path):
    code = (
        "from domainbed.lib import misc;"
        "print([misc.split_dataset(range(n), n // 5, misc.seed_hash(t, i))[0].keys"
        " for n in (5, 97) for t in (0, 3) for i in (0, 1)])"
    )
    theirs = here.run(f'python -c "{code}"', real_host).stdout
    register = "from domainbed_carft.register import register; register();"
    ours = here.run(
        f'python -c "{register}{code}"', tmp_path, DOMAINBED_CARFT_HOST="embedded"
    ).stdout
    assert theirs == ours
