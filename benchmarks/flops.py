"""Count the FLOPs per image of CLIP's image encoders, for the cost estimates in sweeps/*.sh.

    python benchmarks/flops.py

A training step is 3 forward passes, since a backward pass counts as 2, or 4 with CAR-FT's frozen
copy. A multiply-add is 2 FLOPs. No weights are needed.
"""

import torch
from torch.utils.flop_counter import FlopCounterMode


def forward_flops(resolution=224, patch=16, width=768, layers=12, dim=512):
    """Return the FLOPs of CLIP's image encoder on one image."""
    from clip.model import VisionTransformer

    with torch.device("meta"):
        encoder = VisionTransformer(resolution, patch, width, layers, width // 64, dim)
        image = torch.empty(1, 3, resolution, resolution)
    # training mode, since the counter misses the fused kernels of evaluation mode
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder.train()(image)
    return counter.get_total_flops()


def hours(images, per_image, flops_per_second=125e12):
    """Return the hours to process images.

    Args:
        images: number of images.
        per_image: FLOPs per image.
        flops_per_second: achieved speed (not the peak).
    """
    return images * per_image / flops_per_second / 3600


if __name__ == "__main__":
    for name, shape in {
        "ViT-B/16": {},
        "ViT-L/14@336px": {"resolution": 336, "patch": 14, "width": 1024, "layers": 24, "dim": 768},
    }.items():
        once = forward_flops(**shape)
        print(
            f"{name}: forward {once / 1e9:.1f} GFLOPs per image; training step "
            f"{3 * once / 1e9:.1f}, with the frozen copy {4 * once / 1e9:.1f}"
        )
