"""The baselines in the real, unmodified DomainBed, and their records on both hosts."""

import shlex

import pytest
from host_install import records, train_flags

pytestmark = pytest.mark.host


BASELINES = (
    *("CLIP_ERM", "CLIP_LP", "CLIP_LPFT", "CLIP_L2SP", "CLIP_Distill", "CLIP_LipsumFT"),
    *("CLIP_MIRO", "CLIP_FLYP", "CLIP_CaRot", "CLIP_CoOp", "CLIP_CLIPood", "CLIP_FTP"),
)
VARIANTS = {
    "CARFT_lora": ("CARFT", {"clip_train": "lora", "clip_lora_rank": 2}),
    "CARFT_ema": ("CARFT", {"carft_teacher": "ema"}),
}
PROBES = {name: (name, {"lp_l2": 1.0}) for name in ("CLIP_LP", "CLIP_LPFT")}  # converge quickly
RUNS = {**{name: (name, {}) for name in BASELINES}, **PROBES, **VARIANTS}
# DomainBed's own script, once for each algorithm, in one process: most of a short run is imports
RUN_ALL = """
import runpy, shlex, sys
from domainbed_carft.register import register
register()
streams = sys.stdout, sys.stderr
for command in sys.argv[1:]:
    sys.argv = ["train", *shlex.split(command)]
    runpy.run_module("domainbed.scripts.train", run_name="__main__", alter_sys=True)
    sys.stdout, sys.stderr = streams
"""


@pytest.fixture(scope="module")
def trained(here, real_host, files, tmp_path_factory):
    """{host: folder with a run of each baseline}."""
    folder = tmp_path_factory.mktemp("baselines")
    for host in ("domainbed", "embedded"):
        words = []
        for name, (algorithm, knobs) in RUNS.items():
            out = folder / host / name
            flags = train_flags(files, out, algorithm, data_augmentation=False, **knobs)
            words.append(shlex.quote(flags))
        variables = {"DOMAINBED_CARFT_N_WORKERS": "0"}
        variables |= {"DOMAINBED_CARFT_HOST": host} if host == "embedded" else {}
        here.run(f"python -c {shlex.quote(RUN_ALL)} {' '.join(words)}", real_host, **variables)
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_every_baseline_runs_and_has_the_embedded_host_s_records(trained, name):
    theirs, ours = records(trained / "domainbed" / name), records(trained / "embedded" / name)
    assert len(theirs) == len(ours) == 2
    for a, b in zip(theirs, ours):
        assert set(a) == set(b)
        for key in ("step", "epoch", "hparams"):
            assert a[key] == b[key]
        assert {**a["args"], "output_dir": ""} == {**b["args"], "output_dir": ""}
