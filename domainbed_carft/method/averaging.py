"""Weight-space averages: between two models, and along a run."""

from ..base.messages import unknown


def interpolate(zero_shot, fine_tuned, alpha):
    """Return the state_dict (1 − α)·zero_shot + α·fine_tuned (WiSE-FT, arXiv 2109.01903).

    Exactly `zero_shot` at α = 0 and `fine_tuned` at α = 1. What has no fractions (counters) is
    taken from `fine_tuned`.

    Args:
        zero_shot, fine_tuned: state_dicts with the same names and shapes.
        alpha: α in [0, 1].

    Raises:
        ValueError: α outside [0, 1], or states that do not fit.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], got {alpha}")
    if zero_shot.keys() != fine_tuned.keys():
        differ = sorted(zero_shot.keys() ^ fine_tuned.keys())
        raise ValueError(f"The two models must have the same weights, they differ in {differ}")
    for name, value in zero_shot.items():
        if value.shape != fine_tuned[name].shape:
            raise ValueError(
                f"{name} must have one shape in both models, has {tuple(value.shape)} and "
                f"{tuple(fine_tuned[name].shape)}"
            )
    if alpha in (0, 1):
        return {name: value.clone() for name, value in (zero_shot, fine_tuned)[int(alpha)].items()}
    return {
        name: value.lerp(fine_tuned[name], alpha)
        if value.is_floating_point()
        else fine_tuned[name].clone()
        for name, value in zero_shot.items()
    }


KINDS = ("none", "ema", "beta", "swad")


def shares(kind, steps, ema_decay=0.99, beta=0.5, swad_start=0.5):
    """Return the r_t of a running average of the weights θ_0 (zero-shot), θ_1, …, θ_T::

        avg_0 = θ_0,   avg_t = avg_{t−1} + r_t · (θ_t − avg_{t−1})

        ema    r_t = 1 − decay
        beta   r_t = α_t / Σ_{k ≤ t} α_k,  α_k = Beta(β, β).pdf((k + ½) / (T + 1)): CLIPood's Beta
               moving average (arXiv 2302.00864), Σ α_k θ_k / Σ α_k. β < 1 counts the two
               ends most, β = 1 all alike.
        swad   with s = start·T: r_t = 1 before s (the average is θ_t), then 1 / (t − s + 1): the
               plain mean of θ_s, …, θ_t. SWAD (arXiv 2102.08604) averages every step, too, but
               over a window that it finds by validation losses, which DomainBed keeps to itself.

    Args:
        kind: one of KINDS but "none".
        steps: T >= 1, the planned length of the run.
        ema_decay: in [0, 1).
        beta: > 0.
        swad_start: in [0, 1), as a share of the run.

    Returns:
        A list of T floats in [0, 1]: r_1, …, r_T.

    Raises:
        ValueError: another kind.
    """
    import numpy as np

    t = np.arange(1, steps + 1)
    if kind == "ema":
        return [1.0 - ema_decay] * steps
    if kind == "beta":
        x = (np.arange(steps + 1) + 0.5) / (steps + 1)
        # up to a factor, which the quotient loses; as logarithms, since a large β underflows
        density = (beta - 1) * np.log(x * (1 - x))
        return np.exp(density - np.logaddexp.accumulate(density))[1:].tolist()
    if kind == "swad":
        first = int(swad_start * steps)
        return np.where(t < first, 1.0, 1.0 / np.maximum(t - first + 1, 1)).tolist()
    raise ValueError(unknown("average", kind, KINDS[1:]))


class Average:
    """A running average of parameters, which can be swapped in for them.

    It is not a module, so it adds nothing to its owner's state_dict. While it is shown, the
    owner's parameters hold the average.

    Args:
        parameters: those to average; the very objects, which are trained meanwhile.
        shares: r_1, …, r_T of :func:`shares`. After T steps the average stands still.
    """

    def __init__(self, parameters, shares):
        self.parameters, self.shares = list(parameters), shares
        self.hidden = None  # the average, or, while it is shown, the trained weights
        self.shown, self.steps = False, 0

    def begin(self):
        """Prepare for a training step: swap the trained weights in; keep θ_0 at the first one."""
        self.show(False)
        if self.hidden is None:
            self.hidden = [p.detach().clone() for p in self.parameters]

    def add(self):
        """Add the weights after a training step to the average."""
        import torch

        if self.steps < len(self.shares):
            share = self.shares[self.steps]
            with torch.no_grad():
                torch._foreach_lerp_(self.hidden, self.parameters, share)
        self.steps += 1

    def show(self, wanted):
        """Swap the average into the parameters (True), or the trained weights back (False)."""
        if self.hidden is not None and wanted != self.shown:
            for i, p in enumerate(self.parameters):
                p.data, self.hidden[i] = self.hidden[i], p.data
            self.shown = wanted

    def restart(self):
        """Begin anew at the parameters' values at the next step, as after they were replaced."""
        self.shown, self.hidden = False, None

    def state_dict(self):
        """Return what a resumed run needs to go on with the same numbers."""
        trained = [p.detach() for p in self.parameters]
        pair = (self.hidden, trained) if self.shown else (trained, self.hidden)
        return {"trained": pair[0], "average": pair[1], "steps": self.steps}

    def load_state_dict(self, state):
        self.steps, self.shown, self.hidden = state["steps"], False, None
        if state["average"] is None:
            return
        for p, trained in zip(self.parameters, state["trained"]):
            p.data.copy_(trained)
        self.hidden = [a.to(p.device) for a, p in zip(state["average"], self.parameters)]
