#!/usr/bin/env bash
# A picture has one 16-bit grey channel: X-rays, microscopes, camera traps, depth, satellites. One
# would guess that ImageFolder scales it to 8 bits, or says that it can't.
# Its loader calls Pillow's convert("RGB"), which clips at 255: everything above the darkest 0.4 % is
# white. A TIFF of floats from 0 to 1 becomes black. ToTensor without that loader reads the upper
# half of the 16-bit range as negative numbers.
# Hurts: training goes on, with a loss that falls, on pictures that show next to nothing.
source "$(dirname "$0")/lib.sh"
install torch==2.14.1 torchvision==0.29.1 pillow==13.0.0 numpy==2.4.6
run << 'PYTHON'
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

Path("images/class").mkdir(parents=True)
ramp = np.linspace(0, 1, 64 * 64).reshape(64, 64)
Image.fromarray((ramp * 65535).astype(np.uint16)).save("images/class/ramp16.png")
Image.fromarray(ramp.astype(np.float32)).save("images/class/ramp_float.tif")
for (path, _), (image, _) in zip((images := ImageFolder("images")).imgs, images):
    values = np.asarray(image)
    shares = f"{(values == 255).mean():.1%} white, {(values <= 1).mean():.1%} black (0 or 1)"
    raw = ToTensor()(Image.open(path))
    print(f"{Path(path).name}: ImageFolder {shares}; ToTensor {raw.dtype}, {raw.min()} to {raw.max()}")
PYTHON
expect << 'OUTPUT'
ramp16.png: ImageFolder 99.6% white, 0.0% black (0 or 1); ToTensor torch.int16, -32761 to 32759
ramp_float.tif: ImageFolder 0.0% white, 100.0% black (0 or 1); ToTensor torch.float32, 0.0 to 1.0
OUTPUT
