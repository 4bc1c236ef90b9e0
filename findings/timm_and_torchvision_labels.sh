#!/usr/bin/env bash
# The same folder of class folders is read by torchvision's ImageFolder and by timm's ImageDataset.
# One would guess the same labels: both sort the folders' names.
# torchvision sorts them as text, capitals first; timm sorts naturally, without case and with numbers
# as numbers. In OfficeHome, "TV" is class 58 for one and 63 for the other, and five classes move
# along; folders named by number, as in ImageNet-V2, move nearly all.
# Hurts: a head trained with timm's scripts, or a zero-shot head of class names in order, that is
# scored on labels of the other. 59 of 65 classes are right, so the accuracy looks plausible.
source "$(dirname "$0")/lib.sh"
install torch==2.14.1 torchvision==0.29.1 timm==1.0.31 pillow==13.0.0
run << 'PYTHON'
from pathlib import Path

from PIL import Image
from timm.data import ImageDataset
from torchvision.datasets import ImageFolder

OFFICE_HOME = """Alarm_Clock Backpack Batteries Bed Bike Bottle Bucket Calculator Calendar Candles Chair
Clipboards Computer Couch Curtains Desk_Lamp Drill Eraser Exit_Sign Fan File_Cabinet Flipflops Flowers
Folder Fork Glasses Hammer Helmet Kettle Keyboard Knives Lamp_Shade Laptop Marker Monitor Mop Mouse Mug
Notebook Oven Pan Paper_Clip Pen Pencil Postit_Notes Printer Push_Pin Radio Refrigerator Ruler Scissors
Screwdriver Shelf Sink Sneakers Soda Speaker Spoon TV Table Telephone ToothBrush Toys Trash_Can Webcam"""
for title, names in (("OfficeHome", OFFICE_HOME.split()), ("0 to 999", [str(i) for i in range(1000)])):
    for name in names:
        (Path(title) / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(Path(title) / name / "1.png")
    one = ImageFolder(title).class_to_idx
    other = ImageDataset(title).reader.class_to_idx
    moved = [name for name in one if one[name] != other[name]]
    print(f"{title}: {len(moved)} of {len(names)} labels differ")
    for name in moved[:6]:
        print(f"  {name}: torchvision {one[name]}, timm {other[name]}")
PYTHON
expect << 'OUTPUT'
OfficeHome: 6 of 65 labels differ
  TV: torchvision 58, timm 63
  Table: torchvision 59, timm 58
  Telephone: torchvision 60, timm 59
  ToothBrush: torchvision 61, timm 60
  Toys: torchvision 62, timm 61
  Trash_Can: torchvision 63, timm 62
0 to 999: 988 of 1000 labels differ
  10: torchvision 2, timm 10
  100: torchvision 3, timm 100
  101: torchvision 4, timm 101
  102: torchvision 5, timm 102
  103: torchvision 6, timm 103
  104: torchvision 7, timm 104
OUTPUT
