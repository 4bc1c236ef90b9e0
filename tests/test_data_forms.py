"""data/forms: manifests, tables and shards give the same data set as the folder they come from."""

import csv
import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_image_folder
from domainbed import hparams_registry
from PIL import Image

from domainbed_carft.base import packed
from domainbed_carft.contract import data_facts
from domainbed_carft.data import image_cache, images, inventory, transforms, user_folders
from domainbed_carft.data.forms import kinds, shards

HPARAMS = {"data_augmentation": False}
DOMAINS, CLASSES = ("ink", "photo"), ("dog", "giant_panda")


@pytest.fixture
def birds(tmp_path):
    """A folder DOMAIN/CLASS/IMAGE with images that differ."""
    root = make_image_folder(tmp_path / "Birds", DOMAINS, CLASSES, n=3, size=8)
    (root / "photo/dog/more").mkdir()
    (root / "photo/dog/0.png").rename(root / "photo/dog/more/10.png")
    (root / "ink/dog/2.png").rename(root / "ink/dog/A b, c.png")
    return root


def rows_of(root):
    """Return [(path below root, class, domain)], not in order."""
    paths = sorted(root.rglob("*.png"), key=lambda path: str(path)[::-1])
    parts = [path.relative_to(root).parts for path in paths]
    return [("/".join(p), p[1], p[0]) for p in parts]


def as_csv(root, file):
    with open(file, "w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("domain", "note", "path", "class"))
        for path, name, domain in rows_of(root):
            writer.writerow((domain, "x", f"{root.name}/{path}", name))
    return file


def as_json_lines(root, file):
    rows = [{"path": str(root / p), "class": c, "domain": d} for p, c, d in rows_of(root)]
    file.write_text("\n\n".join(map(json.dumps, rows)))
    return file


def as_shards(root, folder, form="json"):
    """Two shards, in the order of the folder."""
    folder.mkdir()
    (folder / "classnames.txt").write_text("dog\ngiant_panda\n")
    rows = sorted(rows_of(root), key=lambda row: (row[2], row[1], Path(row[0]).parent, row[0]))
    half = len(rows) // 2
    for shard, part in enumerate((rows[:half], rows[half:])):
        with tarfile.open(folder / f"{shard:03d}.tar", "w") as archive:
            for i, (path, name, domain) in enumerate(part):
                about = {"domain": domain} | ({"class": name} if form == "json" else {})
                add(archive, f"{i:05d}.png", (root / path).read_bytes())
                if form == "cls":
                    add(archive, f"{i:05d}.cls", str(CLASSES.index(name)).encode())
                add(archive, f"{i:05d}.json", json.dumps(about).encode())
    return folder


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def as_parquet(root, folder, rows=None):
    """Two files as Hugging Face has PACS, of row groups of two rows; DomainNet's domains."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("x")
    table = hf_table(pa, root, rows)
    for i in range(2):
        half = table.slice(i * 6, 6)
        pq.write_table(half, folder / "data" / f"train-{i:05d}-of-00002.parquet", row_group_size=2)
    return folder


def hf_table(pa, root, rows=None):
    """The table of `datasets`: an image, a label with names, and a domain."""
    rows = rows or sorted(rows_of(root), key=lambda r: (r[2], r[1], Path(r[0]).parent, r[0]))
    content = [
        {"bytes": (root / path).read_bytes(), "path": Path(path).name} for path, _, _ in rows
    ]
    features = {
        "image": {"_type": "Image"},
        "label": {"names": [*CLASSES, "unused"], "_type": "ClassLabel"},
        "domain": {"dtype": "string", "_type": "Value"},
    }
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {
        "image": pa.array(content, kind),
        "label": pa.array([CLASSES.index(name) for _, name, _ in rows], pa.int64()),
        "domain": pa.array([domain for _, _, domain in rows]),
    }
    return pa.table(columns).replace_schema_metadata(metadata)


def as_saved(root, folder):
    """A DatasetDict of two splits as save_to_disk of `datasets` writes it."""
    pa = pytest.importorskip("pyarrow")
    table = hf_table(pa, root)
    for name, part in (("train", table.slice(0, 7)), ("test", table.slice(7))):
        (folder / name).mkdir(parents=True)
        file = str(folder / name / "data-00000-of-00001.arrow")
        with pa.OSFile(file, "wb") as out, pa.ipc.new_stream(out, part.schema) as writer:
            writer.write_table(part, max_chunksize=4)
        files = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
        (folder / name / "state.json").write_text(json.dumps(files))
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    return folder


FORMS = {
    "csv": lambda root, tmp: as_csv(root, tmp / "birds.csv"),
    "jsonl": lambda root, tmp: as_json_lines(root, tmp / "birds.jsonl"),
    "shards": lambda root, tmp: as_shards(root, tmp / "shards"),
    "shards with numbers": lambda root, tmp: as_shards(root, tmp / "shards", "cls"),
    "parquet": lambda root, tmp: as_parquet(root, tmp / "hub"),
    "save_to_disk": lambda root, tmp: as_saved(root, tmp / "saved"),
}


def opened(path, **hparams):
    path = str(path)
    cls = user_folders.data_set(kinds.name_of(path), path)
    return cls(None, [1], {**HPARAMS, **hparams})


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_the_data_set_of_the_folder_it_was_made_from(form, birds, tmp_path):
    """The same domains, classes, labels, images and order, and so the same splits."""
    folder, other = opened(birds), opened(FORMS[form](birds, tmp_path))
    assert other.ENVIRONMENTS == folder.ENVIRONMENTS == list(DOMAINS)
    assert other.num_classes == 2 and len(other) == 2
    for theirs, ours in zip(folder, other):
        assert ours.classes == theirs.classes == list(CLASSES)
        assert list(ours.targets) == list(theirs.targets) and len(ours) == 6
        for (x, y), (ours_x, ours_y) in zip(theirs, ours):
            assert torch.equal(x, ours_x) and y == ours_y


@pytest.mark.parametrize("form", FORMS)
def test_workers_get_images_of_a_form(form, birds, tmp_path):
    env = opened(FORMS[form](birds, tmp_path))[0]
    copy = pickle.loads(pickle.dumps(env))
    assert torch.equal(copy[3][0], env[3][0])


def test_a_manifest_of_a_folder_has_the_folder_s_fingerprint(birds, tmp_path):
    """So a run goes on when a folder is replaced by its manifest."""
    found = [data_facts.facts(opened(p)) for p in (birds, as_csv(birds, tmp_path / "b.csv"))]
    assert found[0] == found[1] and None not in found[0]["files_sha256"]


@pytest.mark.parametrize("form", ["shards", "parquet", "save_to_disk"])
def test_images_within_files_have_a_fingerprint_that_heeds_labels(form, birds, tmp_path):
    dataset = opened(FORMS[form](birds, tmp_path))
    before = data_facts.facts(dataset)
    assert all(len(digest) == 64 for digest in before["files_sha256"] + before["sizes_sha256"])
    dataset[1].targets[0] = 1
    after = data_facts.facts(dataset)
    assert after["files_sha256"][0] == before["files_sha256"][0]
    assert after["files_sha256"][1] != before["files_sha256"][1]


def test_a_domain_named_like_a_folder_here_changes_no_fingerprint(birds, tmp_path, monkeypatch):
    file = as_csv(birds, tmp_path / "b.csv")
    (tmp_path / "elsewhere" / "photo").mkdir(parents=True)
    found = []
    for place in (tmp_path / "elsewhere", tmp_path):
        monkeypatch.chdir(place)
        found.append(data_facts.facts(opened(file)))
    assert found[0] == found[1]


@pytest.mark.parametrize("form", FORMS)
def test_the_cache_decodes_a_form_once_and_notices_a_change(form, birds, tmp_path, capsys):
    path = FORMS[form](birds, tmp_path)
    knobs = hparams_registry.default_hparams("CARFT", "PACS")
    knobs |= {"clip_cache": str(tmp_path / "cache"), **HPARAMS}
    plain = opened(path)
    for times in (2, 0):
        cached = opened(path, **knobs)
        assert capsys.readouterr().err.count("Caching 6 images") == times
        assert all(torch.equal(cached[d][i][0], plain[d][i][0]) for d in (0, 1) for i in range(6))
    env = cached[0].env
    old = image_cache.key(env, "host", 224)
    file = Path(env.items[0].file if packed.is_packed(env.items[0]) else env.items[0])
    file.touch()
    assert image_cache.key(env, "host", 224) != old


def test_classes_and_domains_as_a_run_recorded_them(birds, tmp_path):
    cls = user_folders.data_set("b", str(as_csv(birds, tmp_path / "b.csv")))
    turned = user_folders.as_recorded(cls, ["photo", "ink"], ["giant_panda", "dog"])
    dataset = turned(None, [1], HPARAMS)
    assert dataset.ENVIRONMENTS == ["photo", "ink"] and dataset[0].classes == ["giant_panda", "dog"]
    assert dataset[0].targets == [0, 0, 0, 1, 1, 1]
    assert "giant_panda" in dataset[0].items[0] and "photo" in dataset[0].items[0]
    with pytest.raises(ValueError, match="classes cat are gone; dog are new"):
        user_folders.as_recorded(cls, ["ink", "photo"], ["cat", "giant_panda"])


def test_a_line_of_class_names_ends_where_it_ends(tmp_path):
    """A form feed or a line separator within a name must not move the numbers after it."""
    (tmp_path / "classnames.txt").write_text("dog\x0chot\u2028dog\ngiant_panda\n\n", newline="")
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        add(archive, "0.png", b"")
        add(archive, "0.cls", b"1")
        add(archive, "0.json", b'{"domain": "ink"}')
    assert shards.read(str(tmp_path), [str(tmp_path / "0.tar")]).classes == ["giant_panda"]


# What is wrong with a manifest: (name of the file, its content, words of the message)
WRONG = [
    ("m.csv", "", "m.csv, line 1: no column path, class and domain. .*by commas., got none"),
    ("m.csv", "path,class,domain\n", "m.csv lists no images"),
    ("m.csv", "path,label,domain\n", "line 1: no column class. Expected .* got path, label, dom"),
    ("m.csv", "Path,Class,Domain\na,b,c\n", "no column path, class and domain.* got Path, Class"),
    ("m.csv", "path;class;domain\na;b;c\n", "no column path.*got path;class;domain"),
    ("m.csv", "path,class,domain\na.png,dog\n", "line 2: 2 values for 3 columns. Quote values"),
    ("m.csv", "path,class,domain\n\na b, c.png,dog,ink\n", "line 3: 4 values for 3 columns"),
    ("m.csv", "path,class,domain\na,dog,ink\nb,,ink\n", "line 3: class must be text, got nothing"),
    ("m.csv", "path,class,domain\n,dog,ink\n", "line 2: path must be text, got nothing"),
    ("m.csv", 'path,class,domain\n"a,dog,ink\n', "line 2: not CSV: unexpected end of data"),
    ("m.csv", "path,class,domain,class\na,b,c,d\n", "line 1: the column class is there twice"),
    (
        "m.csv",
        "path,class,domain\na.png,dog,ink\nb.png,dog,ink\nx/../a.png,dog,photo\n",
        "lines 2 and 4 list the same file .*/a.png",
    ),
    (
        "m.csv",
        "path,class,domain\na,dog,ink\nb,dog,photo\nc,cat,ink\n",
        "Every domain of .*m.csv must have images of every class: photo lacks cat",
    ),
    (
        "m.csv",
        "path,class,domain\na,Dog,ink\nb,dog,photo\n",
        r"the class 'Dog' \(line 2\) and 'dog' \(line 3\) differ only in case or spaces",
    ),
    (
        "m.csv",
        "path,class,domain\na,d,real world\nb,d,Real  World\n",
        r"the domain 'real world' \(line 2\) and 'Real  World' \(line 3\) differ only in case",
    ),
    ("m.csv", "path,class,domain\na,dog,x/y\n", "line 2: a domain's name must be like that of a f"),
    ("m.csv", "path,class,domain\na,dog,ink\n", "m.csv has 1 domains: ink. Expected at least 2"),
    ("m.csv", "path,class,domain\na,dog,ink\n".encode("utf-16"), "m.csv is not UTF-8: save it as"),
    ("m.jsonl", "", "m.jsonl lists no images"),
    ("m.jsonl", '[\n{"path": "a"}]', r"line 1: not JSON: .* JSON lines have one object per line"),
    ("m.json", '[{"path": "a"}]', "line 1: expected an object with path, class and domain, got l"),
    ("m.jsonl", '{"path": "a", "class": "b"}', "line 1: no column domain.*, got path, class"),
    (
        "m.jsonl",
        '{"path": "a", "class": "b", "domain": "c"}\n{"path": "b", "class": 3, "domain": "c"}',
        "line 2: class must be text, got 3",
    ),
    ("m.jsonl", '{"path": "a", "path": "b"}', "line 1: not JSON: 'path' is there twice"),
    (
        "m.txt",
        "a dog ink",
        "m.txt is no data set. Expected a folder DOMAIN/CLASS/IMAGE, a manifest",
    ),
    ("m.tar.gz", "", "m.tar.gz is no data set. Unpack it to a .tar file. Expected"),
    ("m.tar", "junk" * 200, "m.tar cannot be read as an uncompressed .tar file"),
]


@pytest.mark.parametrize("name, content, words", WRONG)
def test_a_wrong_manifest_is_one_line(name, content, words, tmp_path):
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words) as raised:
        user_folders.data_set("m", str(tmp_path / name))
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_has_its_line(birds, tmp_path):
    file = tmp_path / "b.csv"
    cells = [f"Birds/{p},{c},{d}" for p, c, d in rows_of(birds) if "," not in p]
    file.write_text("\n".join(["path,class,domain", *cells, "nope.png,dog,ink", "no.png,dog,ink"]))
    cls = user_folders.data_set("b", str(file))
    with pytest.raises(ValueError, match=r"b.csv, line 13: no file .*nope.png \(2 of 13 files do"):
        cls(None, [1], HPARAMS)


def test_a_manifest_that_is_not_there_is_no_folder(tmp_path):
    with pytest.raises(ValueError, match="no file .*/b.csv$"):
        user_folders.data_set("b", str(tmp_path / "b.csv"))


def test_spaces_around_values_and_a_byte_order_mark_are_no_matter(birds, tmp_path):
    file = tmp_path / "b.tsv"
    rows = [f"Birds/{p}\t {c} \t{d}" for p, c, d in rows_of(birds)]
    file.write_text("\ufeff" + "\r\n".join(["path\tclass \tdomain", *rows]), encoding="utf-8")
    assert opened(file)[0].classes == list(CLASSES)


def test_two_unicode_forms_are_one_class(tmp_path):
    lines = ["path,class,domain", "a,caf\u00e9,ink", "b,cafe\u0301,photo"]
    (tmp_path / "m.csv").write_text("\n".join(lines), encoding="utf-8")
    assert user_folders.data_set("m", str(tmp_path / "m.csv")).NAMES == ["caf\u00e9"]


def shard(file, *members):
    with tarfile.open(file, "w") as archive:
        for name, content in members:
            add(archive, name, content if isinstance(content, bytes) else content.encode())


INK = '{"domain": "ink", "class": "dog"}'


@pytest.mark.parametrize(
    "members, words",
    [
        ([("a.json", INK)], "sample a: no image; it has .json"),
        (
            [("a.jpg", "x"), ("a.png", "x"), ("a.json", INK)],
            "sample a: several images; it has .jpg",
        ),
        ([("a.jpg", "x"), ("a.cls", "dog")], 'sample a: no domain: expected .json with "domain"'),
        ([("a.jpg", "x"), ("a.json", '{"domain": "ink"}')], "sample a: no class: expected .cls"),
        ([("a.jpg", "x"), ("a.json", '{"domain": 3, "class": "b"}')], "domain is 3: expected .js"),
        ([("a.jpg", "x"), ("a.json", "{")], "sample a: .json is not JSON"),
        ([("a.jpg", "x"), ("a.json", "[]")], "sample a: .json is not an object"),
        ([("a.jpg", "x"), ("a.cls", "7"), ("a.json", INK)], "number 7: write the class names, one"),
        ([("a.jpg", "x"), ("a.cls", "cat"), ("a.json", INK)], "differ: class 'dog', .cls 'cat'"),
        ([("a.jpg", "x"), ("a.jpg", "x"), ("a.json", INK)], "a.jpg is there twice"),
        (
            [("a.jpg", "x"), ("b.jpg", "x"), ("b.json", INK), ("a.json", INK)],
            "sample a: no class",
        ),
        (
            [("a.jpg", "x"), ("a.json", INK), ("b.jpg", "x"), ("b.json", INK), ("a.txt", "x")],
            "one a",
        ),
    ],
)
def test_a_wrong_shard_names_the_sample(members, words, tmp_path):
    shard(tmp_path / "x.tar", *members)
    with pytest.raises(ValueError, match=words) as raised:
        user_folders.data_set("x", str(tmp_path / "x.tar"))
    assert "\n" not in str(raised.value) and "x.tar" in str(raised.value)


def test_hidden_members_are_left_out_and_said(birds, tmp_path):
    folder = as_shards(birds, tmp_path / "shards")
    with tarfile.open(folder / "000.tar", "a") as archive:
        add(archive, "._00000.png", b"x")
        add(archive, "__MACOSX/00000.png", b"x")
    with pytest.warns(UserWarning, match="2 hidden files are left out: ._00000.png, __MACOSX/0000"):
        assert len(opened(folder)[0]) == 6


def test_a_broken_image_in_a_shard_is_named(birds, tmp_path):
    folder = as_shards(birds, tmp_path / "shards")
    with tarfile.open(folder / "002.tar", "w") as archive:
        for name in CLASSES:
            for domain in DOMAINS:
                add(archive, f"{name}{domain}.jpg", b"junk")
                about = json.dumps({"class": name, "domain": domain})
                add(archive, f"{name}{domain}.json", about.encode())
    env = opened(folder)[0]
    with pytest.raises(images.Unreadable, match=r"dogink.jpg in .*002.tar \(4 bytes\) is no image"):
        env[3]
    (finding,) = inventory.check(str(folder), decode=True)
    assert finding.state == "incomplete" and finding.text.count("is no image that can be read") == 4


@pytest.mark.parametrize("form", FORMS)
def test_doctor_checks_a_form(form, birds, tmp_path):
    twin = (birds / "ink/dog/0.png").read_bytes()
    (birds / "ink/dog/1.png").write_bytes(twin)
    (finding,) = inventory.check(str(FORMS[form](birds, tmp_path)), decode=True)
    assert finding.state == "whole" and "ink 6, photo 6 images, 2 classes" in finding.text
    assert "1 image is a byte-for-byte copy of another (1 within a domain" in finding.text


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        ValueError, match=r"x.parquet needs pyarrow: pip install .*\[data\]"
    ) as said:
        user_folders.data_set("x", str(tmp_path / "x.parquet"))
    assert "\n" not in str(said.value)


def write(file, **columns):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), file)
    return str(file)


@pytest.mark.parametrize(
    "columns, words",
    [
        (
            {"label": ["a"], "domain": ["b"]},
            "no column of images. Expected `image` with bytes; its",
        ),
        ({"image": [b"x"], "domain": ["b"]}, "has no column label or class. Expected an image, l"),
        ({"image": [b"x"], "label": ["a"]}, "has no column domain"),
        (
            {"image": [b"x"], "label": ["a"], "class": ["a"], "domain": ["b"]},
            "has both columns label and class",
        ),
        (
            {"a": [b"x"], "b": [b"x"], "label": ["a"], "domain": ["b"]},
            "several columns of bytes: a",
        ),
        ({"image": [b"x"], "label": [3], "domain": ["b"]}, "row 0: label is 3, without a name"),
        ({"image": [b"x"], "label": ["a"], "domain": [None]}, "row 0: domain is empty"),
    ],
)
def test_a_wrong_table_is_one_line(columns, words, tmp_path):
    file = write(tmp_path / "t.parquet", **columns)
    with pytest.raises(ValueError, match=words) as raised:
        user_folders.data_set("t", file)
    assert "\n" not in str(raised.value) and "t.parquet" in str(raised.value)


def test_a_file_that_is_no_parquet_and_one_that_is_missing(birds, tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "t.parquet").write_bytes(b"junk")
    with pytest.raises(ValueError, match="t.parquet cannot be read: ") as raised:
        user_folders.data_set("t", str(tmp_path / "t.parquet"))
    assert "\n" not in str(raised.value)
    saved = as_saved(birds, tmp_path / "saved")
    (saved / "test" / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(ValueError, match="No file .*data-00000-of-00001.arrow, which .*state.json"):
        user_folders.data_set("t", str(saved))


def test_a_folder_with_folders_of_folders_stays_a_folder(birds):
    (birds / "backup.tar").write_bytes(b"x")
    (birds / "old.parquet").write_bytes(b"x")
    assert kinds.reader(str(birds)) is None
    assert len(opened(birds)) == 2


@pytest.mark.parametrize(
    "path, name", [("/x/birds.csv", "birds"), ("/x/b.v2.jsonl", "b.v2"), ("/x/.csv", ".csv")]
)
def test_names_of_files(path, name):
    assert kinds.name_of(path) == name


def test_sixteen_bit_greys_in_a_shard_are_scaled(tmp_path):
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8), 32896, np.uint16)).save(out, "PNG")  # 128·257
    members = [(f"{d}.png", out.getvalue()) for d in DOMAINS]
    about = [(f"{d}.json", json.dumps({"class": "dog", "domain": d})) for d in DOMAINS]
    shard(tmp_path / "x.tar", members[0], about[0], members[1], about[1])
    env = opened(tmp_path / "x.tar")[0]
    assert env.image(0).getpixel((0, 0)) == (128, 128, 128)
    assert transforms.parse("host")[1] == env[0][0].shape[1] == 224
