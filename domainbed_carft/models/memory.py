"""Caches of image features, keyed by a hash of pixels."""

import torch


class FeatureMemory:
    """Cache of the frozen encoder's features, for runs without augmentation.

    Without augmentation, an image always has the same pixels. So CAR-FT needs the frozen forward
    pass once per image instead of once per step. The key is a 64-bit hash of the pixels.

    Args:
        limit: maximum number of cached images (D floats each, on the CPU). Features of further
            images are computed every time.
    """

    def __init__(self, limit=500_000):
        self.rows, self.limit = {}, limit

    def __call__(self, frozen, images):
        """Return frozen(images), computed for new images only."""
        keys = image_keys(images)
        new = [i for i, key in enumerate(keys) if key not in self.rows]
        known = [i for i, key in enumerate(keys) if key in self.rows]
        if not known:
            features = frozen(images)
        else:
            rows = torch.stack([self.rows[keys[i]] for i in known]).to(images.device)
            features = rows.new_empty(len(keys), rows.shape[1])
            features[known] = rows
            if new:
                features[new] = frozen(images[new])
        if new and len(self.rows) < self.limit:
            self.rows.update(zip([keys[i] for i in new], features[new].cpu()))
        return features

    def state_dict(self):
        """Return the state that a resumed run needs for identical results."""
        return {"keys": list(self.rows), "rows": list(self.rows.values())}

    def load_state_dict(self, state):
        self.rows = dict(zip(state["keys"], state["rows"]))


class Seen:
    """Frozen features and labels of all images that a run has seen, each image once.

    The key is a hash of the pixels. Without augmentation, each image is encoded once. With it, each
    augmented view is a new image.

    Args:
        limit: maximum number of images (D floats each, on the CPU). Further images are ignored.
    """

    def __init__(self, limit=500_000):
        self.rows, self.limit = {}, limit  # {key: (feature, label)}
        self.steps = 0  # number of batches added
        self.fitted = 0  # number of rows in the last fit

    def __len__(self):
        return len(self.rows)

    def add(self, encode, images, labels):
        """Add a batch of images (B, ...) and labels (B,). `encode` returns features (B, D)."""
        self.steps += 1
        if len(self.rows) >= self.limit:
            return
        new = {key: i for i, key in enumerate(image_keys(images)) if key not in self.rows}
        if new:
            chosen = list(new.values())
            features = encode(images[chosen]).cpu()
            self.rows.update(zip(new, zip(features, labels[chosen].tolist())))

    def tensors(self, device):
        """Return (features (N, D), labels (N,)), in the order in which images were first seen."""
        features, labels = zip(*self.rows.values())
        return torch.stack(features).to(device), torch.tensor(labels, device=device)

    def clear(self):
        """Drop all features and labels."""
        self.rows, self.fitted = {}, 0

    def state_dict(self):
        """Return the state that a resumed run needs for identical results."""
        return {"rows": self.rows, "steps": self.steps, "fitted": self.fitted}

    def load_state_dict(self, state):
        self.rows = dict(state["rows"])
        self.steps, self.fitted = state["steps"], state["fitted"]


def image_keys(images):
    """Return a 64-bit integer for each image (B, ...): Σ bits·r mod 2^64 with random odd r.

    Integer sums have no rounding, so the key depends on neither the batch nor the device.
    """
    bits = images.float().contiguous().view(torch.int32).flatten(1).long()
    generator = torch.Generator().manual_seed(0)
    r = torch.randint(2**62, (bits.shape[1],), generator=generator) * 2 + 1
    return (bits * r.to(bits.device)).sum(1).tolist()
