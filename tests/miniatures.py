"""Tiny data sets in the layouts in which the real ones are distributed.

Class lists come from elsewhere than the code under test: ImageNet's wnids from timm, ObjectNet's
spot values from its own mapping files.
"""

import io
import json
import pickle
import struct
from pathlib import Path

import numpy as np
from PIL import Image

# Spot values of the official mappings: folder -> (ObjectNet's name, ImageNet's names, labels).
OBJECTNET = {
    "alarm_clock": ("Alarm clock", ["analog clock", "digital clock"], (409, 530)),
    "banana": ("Banana", ["banana"], (954,)),
    "backpack": (
        "Backpack",
        ["backpack, back pack, knapsack, packsack, rucksack, haversack"],
        (414,),
    ),
    "chair": ("Chair", ["barber chair", "folding chair", "rocking chair"], (423, 559, 765)),
}
# Official members of ImageNet-A and -R (and one of each that is not of the other).
IN_A = {"n01498041": 6, "n01531178": 11}
IN_R = {"n01443537": 1, "n01484850": 2}


def picture(size=(12, 10), colour=(90, 120, 30), form="JPEG"):
    """Return the bytes of an image."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, form)
    return out.getvalue()


JPEG = picture()


def put(path, content=JPEG):
    """Write a file and its folders."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def wnids():
    """Return ImageNet's 1,000 wnids in order, as timm lists them."""
    from timm.data import ImageNetInfo

    return ImageNetInfo("imagenet-1k").label_names()


def some(members):
    """Return 200 wnids, these among them."""
    others = [wnid for wnid in wnids() if wnid not in members and wnid not in {**IN_A, **IN_R}]
    return sorted([*members, *others[: 200 - len(members)]])


def imagenet(root):
    """Lay out ImageNet, V2 (matched frequency), R, A, Sketch and ObjectNet: an image per class."""
    root = Path(root)
    for i, wnid in enumerate(wnids()):
        put(root / "imagenet/train" / wnid / f"{wnid}_1.JPEG")
        put(root / "imagenet/val" / wnid / f"ILSVRC2012_val_{i + 1:08d}.JPEG")
        put(root / "imagenetv2-matched-frequency-format-val" / str(i) / "0a1b2c.jpeg")
        put(root / "sketch" / wnid / "sketch_0.JPEG")
    put(root / "imagenet-r/README.txt", b"read me")
    put(root / "imagenet-a/README.txt", b"read me")
    for wnid in some(IN_R):
        put(root / "imagenet-r" / wnid / "art_0.jpg")
    for wnid in some(IN_A):
        put(root / "imagenet-a" / wnid / "0.01_fox _ x_0.5.jpg")
    objectnet(root / "objectnet-1.0")
    return root


def objectnet(folder):
    """Lay out ObjectNet: 113 classes that ImageNet has, two that it has not; a red border."""
    rows = dict(OBJECTNET)
    taken = {label for *_, labels in rows.values() for label in labels}
    free = [label for label in range(1000) if label not in taken]
    for label in free[: 113 - len(rows)]:
        rows[f"thing_{label}"] = (f"Thing {label}", [f"name {label}"], (label,))
    names = {label: name for _, own, labels in rows.values() for name, label in zip(own, labels)}
    # The file has the 1,000 names in an order of its own, here backwards, like ImageNet's own ids.
    lines = [names.get(label, f"name {label}") for label in range(1000)][::-1]
    put(folder / "mappings/imagenet_to_label_2012_v2", "\n".join(lines).encode() + b"\n")
    numbers = {str(label): 999 - label for label in range(1000)}
    put(folder / "mappings/pytorch_to_imagenet_2012_id.json", json.dumps(numbers).encode())
    to_names = {name: "; ".join(own) for name, own, _ in rows.values()}
    put(folder / "mappings/objectnet_to_imagenet_1k.json", json.dumps(to_names).encode())
    to_label = {key: name for key, (name, *_) in rows.items()}
    to_label |= {"air_freshener": "Air freshener", "bills_money": "Bills (money)"}
    put(folder / "mappings/folder_to_objectnet_label.json", json.dumps(to_label).encode())
    image = np.full((9, 11, 3), (0, 200, 0), np.uint8)
    image[[0, -1]], image[:, [0, -1]] = (255, 0, 0), (255, 0, 0)
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    for key in to_label:
        put(folder / "images" / key / "1a2b3c.png", out.getvalue())


def flowers102(root):
    """Lay out flowers-102/: one image per class and split."""
    from scipy.io import savemat

    folder = Path(root) / "flowers-102"
    n = 102
    for i in range(1, 3 * n + 1):
        put(folder / "jpg" / f"image_{i:05d}.jpg")
    savemat_to(savemat, folder / "imagelabels.mat", {"labels": np.tile(np.arange(1, n + 1), 3)})
    ids = np.arange(1, 3 * n + 1).reshape(3, n)
    savemat_to(savemat, folder / "setid.mat", {"trnid": ids[0], "valid": ids[1], "tstid": ids[2]})


def savemat_to(savemat, path, content):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    savemat(path, content)


AIRCRAFT = ["707-320", "A300B4", "ATR-42", "F/A-18", "Boeing 717"]


def fgvcaircraft(root):
    data = Path(root) / "fgvc-aircraft-2013b/data"
    put(data / "variants.txt", "\n".join(AIRCRAFT).encode())
    for s, split in enumerate(("trainval", "test")):
        lines = []
        for i, name in enumerate(AIRCRAFT * 2):
            put(data / "images" / f"{s}{i:06d}.jpg")
            lines.append(f"{s}{i:06d} {name}")
        put(data / f"images_variant_{split}.txt", "\n".join(lines).encode())


def cifar(root, n_classes, folder, files, meta, key, names_key):
    names = [f"class_{i}" for i in range(n_classes)]
    if n_classes == 10:
        names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    else:
        names[:3] = ["apple", "aquarium_fish", "baby"]
    pixels = np.arange(n_classes * 3072, dtype=np.int64).reshape(n_classes, 3072) % 256
    for file in files:
        entry = {"data": pixels.astype(np.uint8), key: list(range(n_classes))}
        put(Path(root) / folder / file, pickle.dumps(entry))
    put(Path(root) / folder / meta, pickle.dumps({names_key: names}))


def cifar10(root):
    files = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    cifar(root, 10, "cifar-10-batches-py", files, "batches.meta", "labels", "label_names")


def cifar100(root):
    files = ["train", "test"]
    cifar(root, 100, "cifar-100-python", files, "meta", "fine_labels", "fine_label_names")


CARS = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012"]


def stanfordcars(root):
    from scipy.io import savemat

    folder = Path(root) / "stanford_cars"
    savemat_to(savemat, folder / "devkit/cars_meta.mat", {"class_names": np.array(CARS, object)})
    files = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
    for split, file in files.items():
        kind = [("class", np.uint8), ("fname", object)]
        rows = np.array([(i % 3 + 1, f"{i:05d}.jpg") for i in range(6)], dtype=kind)
        savemat_to(savemat, folder / file, {"annotations": rows})
        for _, name in rows:
            put(folder / f"cars_{split}" / name)


def food101(root):
    folder = Path(root) / "food-101"
    for split in ("train", "test"):
        listed = {}
        for dish in ("waffles", "apple_pie", "baby_back_ribs"):
            listed[dish] = [f"{dish}/{split}{i}" for i in range(3)]
            for name in listed[dish]:
                put(folder / "images" / f"{name}.jpg")
        put(folder / "meta" / f"{split}.json", json.dumps(listed).encode())


def oxfordiiitpet(root):
    folder = Path(root) / "oxford-iiit-pet"
    breeds = ["Abyssinian", "american_bulldog", "american_pit_bull_terrier"]
    for split in ("trainval", "test"):
        lines = []
        for i in range(3):
            for label, breed in enumerate(breeds, 1):
                name = f"{breed}_{len(split)}{i}"
                put(folder / "images" / f"{name}.jpg")
                lines.append(f"{name} {label} 1 1")
        put(folder / "annotations" / f"{split}.txt", "\n".join(lines).encode())


def dtd(root):
    folder = Path(root) / "dtd/dtd"
    for split in ("train", "val", "test"):
        lines = []
        for texture in ("banded", "polka-dotted", "zigzagged"):
            for i in range(2):
                lines.append(f"{texture}/{texture}_{split}{i}.jpg")
                put(folder / "images" / lines[-1])
        put(folder / "labels" / f"{split}1.txt", "\n".join(lines).encode())


def sun397(root):
    folder = Path(root) / "SUN397"
    scenes = ["/a/abbey", "/a/airplane_cabin", "/a/apartment_building/outdoor", "/z/zoo"]
    put(folder / "ClassName.txt", "\n".join(scenes).encode())
    for name in ("Training_01.txt", "Testing_01.txt"):
        lines = [f"{scene}/sun_{name[:2].lower()}{i}.jpg" for scene in scenes for i in range(2)]
        for line in lines:
            put(folder / line[1:])
        put(folder / "Partitions" / name, "\n".join(lines).encode())
    put(folder / "a/abbey/sun_unlisted.jpg")


def caltech101(root):
    folder = Path(root) / "caltech101/101_ObjectCategories"
    grey = io.BytesIO()
    Image.new("L", (9, 9), 100).save(grey, "JPEG")  # Caltech has such images
    for name in ("BACKGROUND_Google", "Faces", "Faces_easy", "accordion", "car_side"):
        for i in range(1, 34):
            put(folder / name / f"image_{i:04d}.jpg", grey.getvalue())


def eurosat(root):
    uses = "AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture "
    uses += "PermanentCrop Residential River SeaLake"
    for use in uses.split():
        for i in range(1, 11):
            put(Path(root) / "eurosat/2750" / use / f"{use}_{i}.jpg")


TASKS = {
    **{"Flowers102": flowers102, "FGVCAircraft": fgvcaircraft, "CIFAR10": cifar10},
    **{"CIFAR100": cifar100, "StanfordCars": stanfordcars, "Food101": food101},
    **{"OxfordIIITPet": oxfordiiitpet, "DTD": dtd, "SUN397": sun397},
    **{"Caltech101": caltech101, "EuroSAT": eurosat},
}


def mnist(root):
    """Lay out MNIST/raw as torchvision does: 240 and 120 images, twelve labels to ten."""
    for part, n in (("train", 240), ("t10k", 120)):
        labels = (np.arange(n) % 10).astype(np.uint8)
        pixels = np.zeros((n, 28, 28), np.uint8)
        pixels[:, 4:24, 4:24] = (20 * labels + 40)[:, None, None]
        head = struct.pack(">4i", 2051, n, 28, 28), struct.pack(">2i", 2049, n)
        raw = Path(root, "MNIST", "raw")
        put(raw / f"{part}-images-idx3-ubyte", head[0] + pixels.tobytes())
        put(raw / f"{part}-labels-idx1-ubyte", head[1] + labels.tobytes())


def camelyon(root):
    """Lay out camelyon17_v1.0/ as wilds does: five hospitals of two slides, eight patches each."""
    folder, rows = Path(root) / "camelyon17_v1.0", [",patient,node,x_coord,y_coord,tumor,"]
    rows[0] += "slide,center,split"
    put(folder / "RELEASE_v1.0.txt", b"")
    for i in range(80):
        center, slide = i // 16, i // 8
        rows.append(f"{i},{center:03d},1,{i},7,{i % 2},{slide},{center},{i % 4 == 3:d}")
        name = f"patient_{center:03d}_node_1"
        put(
            folder / "patches" / name / f"patch_{name}_x_{i}_y_7.png", picture((96, 96), form="PNG")
        )
    put(folder / "metadata.csv", "\n".join(rows).encode())


FMOW = {"CHN": "Asia", "DEU": "Europe", "KEN": "Africa", "USA": "Americas", "FJI": "Oceania"}


def fmow(root):
    """Lay out fmow_v1.1/ as wilds does: six regions with two images of the first ten categories."""
    from wilds.datasets.fmow_dataset import categories

    folder = Path(root) / "fmow_v1.1"
    put(folder / "RELEASE_v1.1.txt", b"")
    codes = [f"{code},{region}" for code, region in FMOW.items()]
    put(folder / "country_code_mapping.csv", "\n".join(["alpha-3,region", *codes]).encode())
    rows = ["split,category,timestamp,country_code"]
    for country in [*FMOW, "XXX"]:  # a country that is not in the mapping: wilds' region Other
        for j in range(20):
            put(folder / "images" / f"rgb_img_{len(rows) - 1}.png", picture(form="PNG"))
            year = 2004 + j % 3
            rows.append(f"train,{categories[j // 2]},{year}-05-01T00:00:00Z,{country}")
    put(folder / "rgb_metadata.csv", "\n".join(rows).encode())


def spawrious(root):
    """Lay out Spawrious: 0/ and 1/, with a folder per place and dog, four images each."""
    for part in "01":
        for place in ("beach", "desert", "dirt", "jungle", "mountain", "snow"):
            for dog in ("bulldog", "corgi", "dachshund", "labrador"):
                for i in range(4):
                    put(Path(root) / part / place / dog / f"{dog}_{i}.png", picture(form="PNG"))


def folders(place, domains, classes):
    """Return a function that lays out an image folder below a root: five images per class."""

    def lay_out(root):
        for domain in domains:
            for name in classes:
                for i in range(5):
                    put(Path(root) / place / domain / name / f"{i}.jpg")

    return lay_out


SVIRO_CARS = "aclass escape hilux i3 lexus tesla tiguan tucson x5 zoe"
ANIMALS = "bird bobcat cat coyote dog empty opossum rabbit raccoon squirrel".split()
PLACES = ["location_100", "location_38", "location_43", "location_46"]
STYLES = ["clipart", "infograph", "painting", "quickdraw", "real", "sketch"]
DOMAINBED = {  # data sets: a function that lays out what they read, more classes in the real ones
    ("RotatedMNIST", "ColoredMNIST"): mnist,
    ("VLCS",): folders(
        "VLCS", ["Caltech101", "LabelMe", "SUN09", "VOC2007"], "bird car chair dog person".split()
    ),
    ("PACS",): folders(
        "PACS", ["art_painting", "cartoon", "photo", "sketch"], "dog elephant house".split()
    ),
    ("OfficeHome",): folders(
        "office_home", ["Art", "Clipart", "Product", "Real World"], ["Alarm_Clock", "Bed", "TV"]
    ),
    ("TerraIncognita",): folders("terra_incognita", PLACES, ANIMALS),
    ("DomainNet",): folders("domain_net", STYLES, ["aircraft_carrier", "The_Eiffel_Tower"]),
    ("SVIRO",): folders("sviro", SVIRO_CARS.split(), "0123456"),
    ("WILDSCamelyon",): camelyon,
    ("WILDSFMoW",): fmow,
    tuple(
        f"Spawrious{kind}_{level}"
        for kind in ("O2O", "M2M")
        for level in "easy medium hard".split()
    ): spawrious,
    ("Debug28", "Debug224"): lambda root: None,
}


def accept_any_checksum():
    """Let torchvision take files whose md5 it holds against the official ones."""
    import torchvision.datasets.cifar
    import torchvision.datasets.flowers102

    for module in (torchvision.datasets.cifar, torchvision.datasets.flowers102):
        module.check_integrity = lambda path, md5=None: Path(path).is_file()
