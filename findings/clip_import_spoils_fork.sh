#!/usr/bin/env bash
# A server imports its libraries once and forks its workers, which then use the GPU. One would guess
# that importing a library is harmless, as it is with torch, torchvision or open_clip.
# OpenAI's clip asks for torch.cuda.is_available() in a default argument of clip.load, so on import.
# That question alone marks the process: in each fork, CUDA refuses to start. The error can be seen
# without a GPU; without the import a fork gets as far as looking for the driver.
# Hurts: fork servers, preloading web servers, pools and loaders that use the GPU in a worker.
# PYTORCH_NVML_BASED_CUDA_CHECK=1 does not help where there is no driver to ask.
source "$(dirname "$0")/lib.sh"
install torch==2.14.1 torchvision==0.29.1 clip-anytorch==2.6.0 'setuptools<82'
cat > "$work/fork.py" << 'PYTHON'
import importlib
import os
import sys

import torch

for name in sys.argv[2:]:
    importlib.import_module(name)
sys.stdout.flush()
if os.fork() == 0:
    try:
        torch.cuda.init()
        print(f"{sys.argv[1]}: CUDA starts")
    except (RuntimeError, AssertionError) as error:
        refused = "forked subprocess" in str(error)
        print(f"{sys.argv[1]}:", "CUDA refuses, as the process is a fork" if refused else "looks for a driver")
    sys.stdout.flush()
    os._exit(0)
os.wait()
PYTHON
run << 'PYTHON'
import os
import subprocess
import sys

start = [sys.executable, "-W", "ignore", "fork.py"]
print(subprocess.run([*start, "torch alone"], capture_output=True, text=True).stdout, end="")
print(subprocess.run([*start, "with clip", "clip"], capture_output=True, text=True).stdout, end="")
os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
print(subprocess.run([*start, "with clip and the variable", "clip"], capture_output=True, text=True).stdout, end="")
PYTHON
expect << 'OUTPUT'
torch alone: looks for a driver
with clip: CUDA refuses, as the process is a fork
with clip and the variable: CUDA refuses, as the process is a fork
OUTPUT
