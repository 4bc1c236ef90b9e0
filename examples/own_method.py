"""A method of your own: CAR-FT with a changed loss, for DomainBed's commands and tables.

    export DOMAINBED_CARFT_METHODS=examples/own_method.py
    carft sweep launch --algorithms CARFT CosineCARFT --datasets DigitStyles ...

It works on either host and in the jobs of a sweep. An installed package can list its module in the
entry point group "domainbed_carft.methods" instead of setting the variable.
"""

import torch.nn.functional as F

from domainbed_carft import CARFT, Knob, add_method, car_ft_loss


class CosineCARFT(CARFT):
    """CAR-FT that also keeps features close to the zero-shot features.

    L = CE + λ·KL(p0_ctx ‖ p_ctx) + γ·(1 − cos(f(x), f0(x))), where γ is the knob cosine_gamma.
    """

    def loss(self, images, labels):
        z, z0 = self.encoder(images), self.frozen_features(images)
        loss, ce, kl = car_ft_loss(
            self.classify(z),
            labels,
            z,
            z0,
            self.context_weights,
            self.logit_scale,
            self.hparams["carft_lambda"],
        )
        distance = 1 - F.cosine_similarity(z, z0).mean()
        loss = loss + self.hparams["cosine_gamma"] * distance
        return loss, {"ce": ce, "context_kl": kl, "cosine_distance": distance}


def at_least_0(value):
    """Return None if the value is allowed, else a description of allowed values."""
    return None if isinstance(value, (int, float)) and value >= 0 else "a number >= 0"


# The third argument draws random values, for sweeps with --n_hparams above 1.
gamma = Knob(1.0, at_least_0, lambda random: 10 ** random.uniform(-1, 1))
add_method(CosineCARFT, knobs={"cosine_gamma": gamma})
