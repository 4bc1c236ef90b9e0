"""leaderboard.py, own_rows.py: published rows with their sources, and the user's own."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_sweep import make_sweep

from domainbed_carft.commands.leaderboard import main
from domainbed_carft.reports import leaderboard, own_rows
from domainbed_carft.reports.leaderboard import BENCHMARKS, DATASETS, SHIFTS

ROOT = Path(__file__).parents[1]


def five_data_sets(root, backbone="ViT-B/16", datasets=DATASETS):
    for name in datasets:
        n_envs = 6 if name == "DomainNet" else 4
        hparams = json.dumps({"clip_backbone": backbone})
        steps = (0, 2500, 5000)
        make_sweep(root, name, n_envs, ("CARFT",), trials=2, hparams=hparams, steps=steps)


def read(benchmark):
    return pd.read_csv(BENCHMARKS[benchmark].file, keep_default_na=False, na_values=[""])


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_every_published_row_has_a_source_and_shares_in_per_cent(benchmark):
    rows, about = read(benchmark), BENCHMARKS[benchmark]
    assert rows.source.str.len().min() > 10 and rows[about.setup].notna().all()
    numbers = rows[[*about.sets, "avg"]]
    assert ((numbers > 20) & (numbers < 100) | numbers.isna()).all(axis=None)
    assert not rows.duplicated(["method", "backbone", "pretraining", "source", *about.sets]).any()
    if benchmark == "domainbed":
        assert rows.selection.notna().all()
        assert set(rows["rule"]) == {*leaderboard.RULES, "not stated"}


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_printed_averages_are_means_of_their_rows_or_marked(benchmark):
    sets = DATASETS if benchmark == "domainbed" else SHIFTS
    rows = read(benchmark)
    assert rows.avg.notna().sum() > 30
    for _, row in rows[rows.avg.notna()].iterrows():
        mean, note = np.nanmean(row[list(sets)].astype(float)), str(row.note)
        assert abs(mean - row.avg) < 0.11 or "MEAN CHECK" in note, (row.method, mean, row.avg)


@pytest.mark.parametrize("benchmark, least", [("domainbed", 20), ("imagenet", 15)])
def test_conflicts_are_mutual(benchmark, least):
    """A row that conflicts says with which numbers, and these are in the file."""
    rows = read(benchmark)
    marked = rows[rows.conflict.notna()]
    assert len(marked) >= least
    for conflict in marked.conflict:
        for name, value in re.findall(r"(\w+) (\d+(?:\.\d+)?)", conflict):
            if name in BENCHMARKS[benchmark].sets:
                assert (rows[name] == float(value)).any()


def test_one_file_in_both_places():
    for about in BENCHMARKS.values():
        assert (ROOT / "results" / about.file.name).samefile(about.file)


def test_labels_that_were_wrong():
    """Facts of the sources that the first version of the table lacked."""
    rows = read("domainbed")
    assert set(rows[rows.method == "RD-MLDG"].backbone) == {"InternVL3-8B"}
    moe = rows[rows.source.str.startswith("MoE2") & (rows["rule"] == "training")]
    assert len(moe) == 7 and moe.selection.str.contains("SPG").all()
    qt_dog = rows[rows.source.str.startswith("QT-DoG") & (rows.backbone == "ResNet-50")]
    assert len(qt_dog) == 6 and set(qt_dog["rule"]) == {"training"}
    disam = rows[rows.source.str.startswith("DISAM") & (rows.backbone == "ViT-B/16")]
    assert disam.protocol.str.contains("20 % split").all()


def test_a_row_in_no_group_says_why_and_has_no_rank():
    for benchmark, about in BENCHMARKS.items():
        data = leaderboard.board(leaderboard.published(benchmark), benchmark).data
        unclear = data[data.group == "?"]
        assert len(unclear) > 5 and (unclear.caveat != "").all() and set(unclear["rank"]) == {"-"}
        for _, rows in data[data.group != "?"].groupby("group"):
            means = rows[about.rank].tolist()
            places = [1 + sum(other > mean for other in means) for mean in means]
            assert rows["rank"].tolist() == [f"{place} of {len(means)}" for place in places]


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
    assert own_rows.encoder_of(sweep, "PACS", "A")[1] == expected
    assert own_rows.encoder_of(sweep, "VLCS", "A") is None


def record(path, name, dataset="ImageNet", trial=0, data="imagenet", alpha=1.0, **top1):
    rows = [
        {"alpha": alpha, "environment": environment, "split": "all", "top1": value}
        for environment, value in top1.items()
    ]
    args = dataset and {"dataset": dataset, "steps": 50000, "trial_seed": trial}
    hparams = {"clip_backbone": "ViT-B/16", "lr": 1e-5, "weight_decay": 0.0, "batch_size": 256}
    about = {"metric": "top1", "algorithm": name, "data": data, "args": args, "hparams": hparams}
    path.write_text(json.dumps({**about, "rows": rows}))
    return str(path)


FIVE = dict(zip(("ImageNet", *SHIFTS), (0.8, 0.5, 0.75, 0.25, 0.5, 1.0)))


def test_imagenet(capsys, tmp_path):
    main(["--benchmark", "imagenet", "--output_dir", str(tmp_path)])
    out = capsys.readouterr().out
    (line,) = re.findall(r"^ *CAR-FT .*$", out, re.M)
    # mean of four by hand: (74.03 + 75.37 + 49.53 + 52.97) / 4 = 62.975
    assert line.split()[1:9] == ["83.3", "74.0", "75.4", "49.5", "53.0", "X", "63.0", "X"]
    table = pd.read_csv(tmp_path / "leaderboard.csv")
    assert table[table.method == "CAR-FT"].iloc[0].avg4 == pytest.approx(62.975)
    # by hand: (74.14 + 79.33 + 54.92 + 53.69 + 58.26) / 5 = 64.068
    assert table[table.method == "TRACER"].avg5.max() == pytest.approx(64.068)
    sure = table[table.group != "?"]
    assert not sure.duplicated(["method", "group"]).any()  # no method is ranked against itself
    assert (table[table.recipe == "not stated"].group == "?").all()
    assert (tmp_path / "leaderboard.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_on_the_paper_has_the_row_of_car_ft():
    table = leaderboard.board(leaderboard.published("imagenet"), "imagenet").data
    (row,) = table[table.method == "CAR-FT"].to_dict("records")
    assert row["rank"] == "3 of 12"
    text = " ".join((ROOT / "docs" / "paper.md").read_text().split())
    v2, r, a, sketch = (f"{row[name]:.1f}" for name in SHIFTS[:4])
    assert f"{row['ImageNet']:.1f} on ImageNet, {v2} on V2, {r} on R, {a} on A" in text
    assert f"and {sketch} on Sketch (TRACER, Table 2), third of twelve methods" in text


def test_own_records_of_imagenet(tmp_path, capsys):
    paths = [
        record(tmp_path / "a", "CARFT", trial=0, **FIVE),
        record(tmp_path / "b", "CARFT", trial=1, **{**FIVE, "V2": 0.7}),
        record(tmp_path / "c", "CLIP_ERM", alpha=0.5, **FIVE),
        record(tmp_path / "d", "CLIP_Distill", dataset="PACS", **FIVE),
        record(tmp_path / "e", "CLIP_L2SP", **{"ImageNet": 0.8, "V2": 0.5}),
        record(tmp_path / "f", "CLIP_ZeroShot", dataset=None, alpha=None, **FIVE),
    ]
    soup = json.loads(Path(record(tmp_path / "g", "CARFT+Soup-greedy", **FIVE)).read_text())
    soup |= {"soup": {"kind": "greedy"}, "hparams": {"clip_backbone": "ViT-B/16"}}
    (tmp_path / "g").write_text(json.dumps(soup))
    words = ["--benchmark", "imagenet", "--table", *paths, str(tmp_path / "g")]
    main([*words, "--output_dir", str(tmp_path / "out")])
    table = pd.read_csv(tmp_path / "out" / "leaderboard.csv")
    own = table[table.own].set_index("method")
    assert own.loc["CARFT", "V2"] == 60 and own.loc["CARFT", "n"] == 2
    # by hand: (60 + 75 + 25 + 50) / 4 and (60 + 75 + 25 + 50 + 100) / 5
    assert own.loc["CARFT", ["avg4", "avg5"]].tolist() == [52.5, 62.0]
    groups = own.group
    assert groups["CARFT"] == groups["CLIP_ERM, α = 0.5"] not in ("?", groups["CLIP_ZeroShot"])
    assert own["rank"]["CARFT"] == "1 of 2" and own["rank"]["CLIP_ERM, α = 0.5"] == "2 of 2"
    assert groups["CLIP_Distill"] == groups["CLIP_L2SP"] == "?"
    assert "soup of runs with several sets" in own.recipe["CARFT+Soup-greedy"]
    assert own.caveat["CLIP_Distill"] == "fine-tuned on PACS, not on ImageNet"
    assert own.caveat["CLIP_L2SP"] == "without R, A, Sketch, ObjectNet"
    assert not set(groups) & set(table[~table.own].group) - {"?"}
    assert re.search(r"CARFT \(yours\)", capsys.readouterr().out)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--benchmark", "imagnet"], "did you mean imagenet"),
        (["--benchmark", "imagenet", "--input_dir", "{tmp}"], "add its records with --table"),
        (["--table", "{tmp}/x"], "--table needs --benchmark imagenet"),
        (["--benchmark", "imagenet", "--table", "{tmp}/x"], "not a record of evaluate"),
        (["--benchmark", "imagenet", "--table", "{tmp}/p"], "is on PACS, but the leaderboard"),
        (["--benchmark", "imagenet", "--table", "{tmp}/i", "{tmp}/p"], "is on PACS, but the lead"),
    ],
)
def test_wrong_input_of_imagenet(words, message, tmp_path, capsys):
    record(tmp_path / "p", "CARFT", data="PACS", **{"A": 0.5})
    record(tmp_path / "i", "CARFT", **FIVE)
    with pytest.raises(SystemExit) as stop:
        main([word.format(tmp=tmp_path) for word in words])
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_wrong_input(tmp_path, capsys):
    for words in (["--backbone", "ViT-B16"], ["--input_dir", str(tmp_path)]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2
    err = capsys.readouterr().err
    assert "did you mean ViT-B/16" in err and "no run in" in err
