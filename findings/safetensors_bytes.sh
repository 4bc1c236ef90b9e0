#!/usr/bin/env bash
# The same tensors and the same metadata are saved twice. One would guess that the two files are
# equal, byte for byte: the format is a sorted header and raw numbers.
# The metadata's keys come in an order that changes from save to save, so the checksum does, too.
# With at most one key, and without metadata, the bytes are the same.
# Hurts: caches, DVC, git-annex and provenance that tell weights apart by the hash of the file.
source "$(dirname "$0")/lib.sh"
install safetensors==0.8.0 numpy==2.4.6
run << 'PYTHON'
import hashlib

import numpy as np
from safetensors.numpy import save

tensors = {"weight": np.arange(6.0, dtype=np.float32), "bias": np.zeros(2, dtype=np.float32)}
for keys in (0, 1, 8):
    metadata = {f"key{i}": "value" for i in range(keys)} or None
    files = {hashlib.sha256(save(tensors, metadata)).hexdigest() for _ in range(20)}
    print(f"{keys} keys of metadata, 20 saves: one checksum: {len(files) == 1}")
PYTHON
expect << 'OUTPUT'
0 keys of metadata, 20 saves: one checksum: True
1 keys of metadata, 20 saves: one checksum: True
8 keys of metadata, 20 saves: one checksum: False
OUTPUT
