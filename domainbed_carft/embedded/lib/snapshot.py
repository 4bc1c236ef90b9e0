"""Saving and restoring the state of training, so that a resumed run gives identical results."""

import random

import numpy as np
import torch


def capture(algorithm):
    """Return the state of an algorithm, its optimizers and schedulers, and all generators."""
    return {
        "algorithm": algorithm.state_dict(),
        "trainers": {name: part.state_dict() for name, part in _trainers(algorithm)},
        "rng": {
            "python": random.getstate(),
            "numpy": np.random.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        },
    }


def restore(algorithm, state):
    """Restore a captured state into an algorithm that was built in the same way.

    Raises:
        ValueError: the algorithm has other optimizers or schedulers than the captured one.
    """
    trainers = dict(_trainers(algorithm))
    if trainers.keys() != state["trainers"].keys():
        raise ValueError(
            f"The saved state has {sorted(state['trainers'])}, but the algorithm {sorted(trainers)}"
        )
    algorithm.load_state_dict(state["algorithm"])
    for name, part in trainers.items():
        part.load_state_dict(state["trainers"][name])
    rng = state["rng"]
    random.setstate(rng["python"])
    np.random.set_state(rng["numpy"])
    torch.set_rng_state(rng["torch"])
    if rng["cuda"] and len(rng["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(rng["cuda"])


def _trainers(algorithm):
    """Yield (name, object) for all optimizers, schedulers, scalers and other stateful objects."""
    for path, module in algorithm.named_modules():
        for name, part in vars(module).items():
            stateful = hasattr(part, "state_dict") and hasattr(part, "load_state_dict")
            if stateful and not isinstance(part, torch.nn.Module):
                yield f"{path}.{name}" if path else name, part
