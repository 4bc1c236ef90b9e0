"""A linear probe: multinomial logistic regression on frozen features."""

import torch
import torch.nn.functional as F


def fit(features, labels, start, scale, l2):
    """Return the weights V (K, D) of the logistic regression on features::

        minimise over V:   1/N · Σ_i CE(τ V z_i, y_i)  +  l2/2 · ‖V‖²

    by L-BFGS, from `start`; the minimum is unique for l2 > 0. scikit-learn's
    ``LogisticRegression(C=1 / (N * l2), fit_intercept=False).fit(τ z, y)`` has the same one. In
    these units V is comparable with zero-shot weights W_cls, whatever τ is.

    Args:
        features: z (N, D), normalised here.
        labels: y (N,), int64 in [0, K).
        start: weights (K, D) to start from.
        scale: τ > 0.
        l2: > 0.

    Returns:
        V, float64 on a CPU and float32 on a GPU, where float64 is slow.

    Raises:
        ValueError: no features, or shapes that do not fit.
    """
    if not len(features) or labels.shape != features.shape[:1]:
        raise ValueError(
            "features (N, D) and labels (N,) must have the same N >= 1; got "
            f"{tuple(features.shape)} and {tuple(labels.shape)}"
        )
    exact = features.device.type == "cpu"
    dtype = torch.float64 if exact else torch.float32
    inputs = scale * F.normalize(features.to(dtype), dim=1)
    V = start.detach().to(inputs.device, dtype).clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [V],
        max_iter=1000,
        tolerance_grad=1e-7 if exact else 1e-5,
        tolerance_change=1e-14 if exact else 1e-9,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def loss():
        optimizer.zero_grad()
        value = F.cross_entropy(inputs @ V.T, labels) + l2 / 2 * V.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return V.detach()
