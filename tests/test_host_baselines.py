"""The baselines in the real, unmodified DomainBed, as typed."""

import pytest
from host_install import TRAIN, records

pytestmark = pytest.mark.host


BASELINES = (
    *("CLIP_ERM", "CLIP_LP", "CLIP_LPFT", "CLIP_L2SP", "CLIP_Distill", "CLIP_LipsumFT"),
    *("CLIP_MIRO", "CLIP_FLYP", "CLIP_CLIPood"),
)


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_runs_as_typed_and_has_the_embedded_host_s_records(
    install, real_host, files, tmp_path, name
):
    flags = TRAIN.replace("CARFT", name).replace("--steps 3", "--steps 6")
    settings = {"DOMAINBED_CARFT_N_WORKERS": "0"}
    real, embedded = tmp_path / "real", tmp_path / "embedded"
    command = f"python -m domainbed.scripts.train {flags.format(files=files, out=real)}"
    install.run(command, real_host, **settings)
    command = f"python -m domainbed_carft.train {flags.format(files=files, out=embedded)}"
    install.run(command, real_host, DOMAINBED_CARFT_HOST="embedded", **settings)
    theirs, ours = records(real), records(embedded)
    assert len(theirs) == len(ours) == 4
    for a, b in zip(theirs, ours):
        assert set(a) == set(b)
        for key in ("step", "epoch", "hparams"):
            assert a[key] == b[key]
        assert {**a["args"], "output_dir": ""} == {**b["args"], "output_dir": ""}
