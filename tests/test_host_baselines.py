"""The baselines in the real, unmodified DomainBed, and their records on both hosts."""

import pytest
from host_install import TRAIN, records

pytestmark = pytest.mark.host


BASELINES = (
    *("CLIP_ERM", "CLIP_LP", "CLIP_LPFT", "CLIP_L2SP", "CLIP_Distill", "CLIP_LipsumFT"),
    *("CLIP_MIRO", "CLIP_FLYP", "CLIP_CLIPood"),
)
# DomainBed's own script, once for each algorithm, in one process: most of a short run is imports
RUN_ALL = """
import runpy, sys
from domainbed_carft.register import register
register()
streams = sys.stdout, sys.stderr
for name, command in zip(sys.argv[1::2], sys.argv[2::2]):
    sys.argv = ["train", *command.split()]
    runpy.run_module("domainbed.scripts.train", run_name="__main__", alter_sys=True)
    sys.stdout, sys.stderr = streams
"""


@pytest.fixture(scope="module")
def trained(install, real_host, files, tmp_path_factory):
    """{host: folder with a run of each baseline}."""
    folder = tmp_path_factory.mktemp("baselines")
    (folder / "run_all.py").write_text(RUN_ALL)
    knobs = (files / "hparams.json").read_text().replace(" ", "")
    for host in ("domainbed", "embedded"):
        words = []
        for name in BASELINES:
            flags = TRAIN.replace("CARFT", name).replace("--steps 3", "--steps 6")
            flags = flags.format(files=files, out=folder / host / name)
            flags = flags.replace(f'"$(cat {files}/hparams.json)"', knobs)
            words.append(f"{name} '{flags}'")
        variables = {"DOMAINBED_CARFT_N_WORKERS": "0", "PYTHONPATH": str(real_host)}
        variables |= {"DOMAINBED_CARFT_HOST": host} if host == "embedded" else {}
        install.run(f"python {folder}/run_all.py {' '.join(words)}", real_host, **variables)
    return folder


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_runs_and_has_the_embedded_host_s_records(trained, name):
    theirs, ours = records(trained / "domainbed" / name), records(trained / "embedded" / name)
    assert len(theirs) == len(ours) == 4
    for a, b in zip(theirs, ours):
        assert set(a) == set(b)
        for key in ("step", "epoch", "hparams"):
            assert a[key] == b[key]
        assert {**a["args"], "output_dir": ""} == {**b["args"], "output_dir": ""}
