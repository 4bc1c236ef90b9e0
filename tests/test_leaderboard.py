"""leaderboard.py: published rows with their sources, and the user's own among them."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_sweep import make_sweep

from domainbed_carft.commands.leaderboard import main
from domainbed_carft.reports import leaderboard
from domainbed_carft.reports.leaderboard import DATASETS

ROOT = Path(__file__).parents[1]


def five_data_sets(root, backbone="ViT-B/16", datasets=DATASETS):
    for name in datasets:
        n_envs = 6 if name == "DomainNet" else 4
        hparams = json.dumps({"clip_backbone": backbone})
        steps = (0, 2500, 5000)
        make_sweep(root, name, n_envs, ("CARFT",), trials=2, hparams=hparams, steps=steps)


def test_every_published_row_has_a_source_and_shares_in_per_cent():
    rows = pd.read_csv(leaderboard.PUBLISHED)
    assert rows.source.str.len().min() > 10 and rows.selection.notna().all()
    numbers = rows[[*DATASETS, "avg"]]
    assert ((numbers > 20) & (numbers < 100) | numbers.isna()).all(axis=None)
    assert set(rows["rule"]) == {*leaderboard.RULES, "not stated"}


def test_printed_averages_are_means_of_their_rows_or_marked():
    rows = pd.read_csv(leaderboard.PUBLISHED)
    for row in rows[rows.avg.notna()].itertuples():
        mean = np.nanmean([getattr(row, name) for name in DATASETS])
        assert abs(mean - row.avg) < 0.11 or "MEAN CHECK" in row.note, (row.method, mean, row.avg)


def test_conflicts_are_mutual():
    """A row that conflicts says with which numbers, and these are in the file."""
    rows = pd.read_csv(leaderboard.PUBLISHED)
    marked = rows[rows.conflict.notna()]
    assert len(marked) >= 20
    for conflict in marked.conflict:
        for name, value in re.findall(r"(\w+) (\d+(?:\.\d+)?)", conflict):
            if name in DATASETS:
                assert (rows[name] == float(value)).any()


def test_one_file_in_both_places():
    assert (ROOT / "results" / "published.csv").samefile(leaderboard.PUBLISHED)


def test_vit_b_16(capsys, tmp_path):
    main(["--backbone", "ViT-B/16", "--output_dir", str(tmp_path)])
    out = capsys.readouterr().out
    (line,) = re.findall(r"^ *CAR-FT .*$", out, re.M)
    assert line.split()[1:7] == ["96.8", "85.5", "85.7", "61.9", "62.5", "78.5"]
    source = re.search(r"\[\d+\]", line)[0]
    (legend,) = [text for text in out.splitlines() if text.startswith(source)]
    assert "Text-Anchored Information Bottleneck, Table 1" in legend
    table = pd.read_csv(tmp_path / "leaderboard.csv")
    assert len(table) >= 25 and set(table.backbone) == {"ViT-B/16"} and table.source.notna().all()
    averages = table.avg.dropna().tolist()
    assert averages == sorted(averages, reverse=True)
    assert table.avg.isna().tolist() == sorted(table.avg.isna())  # without an average: last
    for form in ("md", "tex"):
        text = (tmp_path / f"leaderboard.{form}").read_text()
        assert "78.5" in text and "Text-Anchored" in text
    assert (tmp_path / "leaderboard.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "leaderboard.txt").read_text() in out


def test_groups_have_one_backbone_pretraining_and_rule():
    rows = leaderboard.board(leaderboard.published()).data
    sure = rows[rows.group != "?"]
    assert sure.avg.notna().all() and len(sure) > 20
    kinds = sure[["group", "backbone", "pretraining", "rule"]].drop_duplicates()
    assert (
        kinds.group.is_unique and not kinds[["backbone", "pretraining", "rule"]].duplicated().any()
    )
    assert not (sure["rule"] == "not stated").any()
    assert not sure.method.str.contains("CLIPood").any()  # another split of the target
    assert (rows[rows.method == "CAR-FT"].group == "?").all()  # its rule is not stated


def test_own_rows_are_placed_by_their_average(tmp_path, capsys):
    five_data_sets(tmp_path / "s")
    main(["--input_dir", str(tmp_path / "s"), "--output_dir", str(tmp_path / "out")])
    table = pd.read_csv(tmp_path / "out" / "leaderboard.csv")
    own = table[table.own & (table["rule"] == "training")].iloc[0]
    assert own.avg == pytest.approx(own[list(DATASETS)].astype(float).mean()) and int(own.n) == 2
    same = table[(table.group == own.group) & ~table.own]
    assert {"ViT-B/16"} == set(same.backbone) and {"training"} == set(same["rule"])
    out = capsys.readouterr().out
    assert "CARFT (yours)" in out and "not ranked" not in out


def test_a_shorter_run_is_in_no_group(tmp_path, capsys):
    for name in DATASETS:
        hparams = json.dumps({"clip_backbone": "ViT-B/16"})
        make_sweep(
            tmp_path / "s", name, 6 if name == "DomainNet" else 4, ("CARFT",), 1, hparams=hparams
        )
    main(["--input_dir", str(tmp_path / "s"), "--output_dir", str(tmp_path / "out")])
    table = pd.read_csv(tmp_path / "out" / "leaderboard.csv")
    own = table[table.own]
    assert set(own.group) == {"?"}
    assert set(own.caveat) == {"not DomainBed's protocol: --steps 201"}
    assert " flags" in capsys.readouterr().out


def test_four_data_sets_have_no_average(tmp_path):
    five_data_sets(tmp_path / "s", datasets=DATASETS[:4])
    main(["--input_dir", str(tmp_path / "s"), "--output_dir", str(tmp_path / "out")])
    table = pd.read_csv(tmp_path / "out" / "leaderboard.csv")
    own = table[table.own]
    assert len(own) == 2 and own.avg.isna().all() and set(own.group) == {"?"}


@pytest.mark.parametrize("dataset, backbone", [("DigitStyles", "ViT-B/16"), ("PACS", "embedded")])
def test_the_embedded_benchmark_is_never_among_them(dataset, backbone, tmp_path, capsys):
    five_data_sets(tmp_path / "s", backbone, [dataset])
    main(["--input_dir", str(tmp_path / "s"), "--output_dir", str(tmp_path / "out")])
    assert not pd.read_csv(tmp_path / "out" / "leaderboard.csv").own.any()
    board, others = capsys.readouterr().out.split("Your rows that are not ranked")
    assert "yours" not in board and re.search(rf"CARFT +{dataset} +\d", others)


@pytest.mark.parametrize(
    "hparams, expected",
    [
        ({"clip_backbone": "open_clip:ViT-B-16/laion2b_s34b_b88k"}, "open_clip laion2b_s34b_b88k"),
        ({"clip_backbone": "weights/mine.pt"}, "a file"),
        ({"clip_backbone": "ViT-B/16+weights/mine.pt"}, "a file"),
        ({"clip_backbone": "runs/first"}, "a file"),
        ({"clip_backbone": "hf-hub:org/name"}, "Hugging Face"),
        ({"clip_backbone": "ViT-L/14@336px"}, "CLIP (OpenAI 400M)"),
        ({"resnet18": False, "resnet50_augmix": True}, "ImageNet-1k (AugMix)"),
        ({"resnet18": True}, "ImageNet-1k"),
    ],
)
def test_pretraining_of_own_runs(hparams, expected):
    job = type("Job", (), {"args": {"dataset": "PACS", "algorithm": "A"}, "row": "A"})
    job.records = [{"hparams": hparams}]
    sweep = type("Sweep", (), {"sound": [job]})
    assert leaderboard.encoder_of(sweep, "PACS", "A")[1] == expected
    assert leaderboard.encoder_of(sweep, "VLCS", "A") is None


def test_wrong_input(tmp_path, capsys):
    for words in (["--backbone", "ViT-B16"], ["--input_dir", str(tmp_path)]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2
    err = capsys.readouterr().err
    assert "did you mean ViT-B/16" in err and "no run in" in err
