"""A program: one of the embedded host's scripts, with an algorithm that shows any lost state.

It has momentum, a schedule, a buffer, dropout, and draws from all three random generators.
DELAY (seconds per step) makes a run long enough to be killed.
"""

import os
import random
import runpy
import sys
import time

import numpy as np
import torch

from domainbed_carft.register import register

os.environ["DOMAINBED_CARFT_HOST"] = "embedded"
register()

from domainbed import algorithms, datasets


class Toy(algorithms.Algorithm):
    def __init__(self, input_shape, num_classes, num_domains, hparams):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        size = int(np.prod(input_shape))
        self.network = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(size, num_classes)
        )
        self.register_buffer("updates", torch.zeros(()))
        self.optimizer = torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 40)

    def update(self, minibatches, unlabeled=None):
        time.sleep(float(os.environ.get("DELAY", 0)))
        self.updates += 1
        x = torch.cat([x for x, _ in minibatches])
        y = torch.cat([y for _, y in minibatches])
        loss = torch.nn.functional.cross_entropy(self.network(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return {
            "loss": loss.item(),
            "lr": self.scheduler.get_last_lr()[0],
            "updates": self.updates.item(),
            "pixels": x.double().sum().item(),
            "draws": random.random() + np.random.rand() + torch.rand(()).item(),
        }

    def predict(self, x):
        return self.network(x)


class NoisyItems(torch.utils.data.Dataset):
    """Random augmentation from all three generators, as image folders have."""

    def __init__(self, env):
        self.x = torch.randn(24, 3, 4, 4, generator=torch.Generator().manual_seed(env))
        self.targets = [i % 2 for i in range(24)]

    def __len__(self):
        return 24

    def __getitem__(self, i):
        noise = torch.randn(3, 4, 4) + random.random() + float(np.random.rand())
        return self.x[i] + noise, self.targets[i]


class Noisy(datasets.MultipleDomainDataset):
    ENVIRONMENTS = ("a", "b", "c")

    def __init__(self, root, test_envs, hparams):
        self.input_shape, self.num_classes = (3, 4, 4), 2
        self.datasets = [NoisyItems(env) for env in range(3)]


if __name__ == "__main__":
    algorithms.Toy, datasets.Noisy = Toy, Noisy
    script = sys.argv.pop(1)
    runpy.run_module(f"domainbed.scripts.{script}", run_name="__main__", alter_sys=True)
