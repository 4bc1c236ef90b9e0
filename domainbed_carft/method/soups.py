"""Soups: weights made of several fine-tuned models that start from the same weights.

All functions take state_dicts with the same names and shapes. What has no fractions (counters) is
taken from the first model.
"""


class Mean:
    """The mean of the models added so far, with memory for one model."""

    def __init__(self, state=None):
        self.n, self.state = 0, None
        if state is not None:
            self.add(state)

    def add(self, state):
        """Add a model. Return self."""
        self.state = self.with_another(state)
        self.n += 1
        return self

    def with_another(self, state):
        """Return the mean that includes another model, without adding it."""
        if not self.n:
            return {name: value.clone() for name, value in state.items()}
        share = 1 / (self.n + 1)
        return {
            name: mean.lerp(state[name], share) if mean.is_floating_point() else mean.clone()
            for name, mean in self.state.items()
        }


def greedy(names, read, score):
    """Return (the chosen names, their mean, its score) of a greedy soup.

    (Wortsman et al., ICML 2022, arXiv 2203.05482, Recipe 1. The restricted selection of DiWA, Ramé
    et al., NeurIPS 2022, arXiv 2205.09739, Algorithm 1, is the same.) Models are added in the given
    order, unless that lowers the score of their mean.

    Args:
        names: names of the models, the best first.
        read: name -> its state_dict.
        score: state_dict -> its score on validation data.
    """
    chosen, soup, best = [], Mean(), float("-inf")
    for name in names:
        state = read(name)
        found = score(soup.with_another(state))
        if found >= best:
            soup.add(state)
            chosen.append(name)
            best = found
    return chosen, soup.state, best


def stock_share(cosine, n):
    """Return Model Stock's t = N cos θ / (1 + (N − 1) cos θ), in [0, 1].

    Args:
        cosine: cos θ between the changes of two models. Negative ones count as 0.
        n: number N >= 2 of models.

    Example:
        >>> stock_share(0.5, 2)  # 2 · 0.5 / (1 + 0.5)
        0.6666666666666666
    """
    cosine = max(cosine, 0.0)
    return n * cosine / (1 + (n - 1) * cosine)


def stock(start, names, read):
    """Return Model Stock's weights (Jang et al., ECCV 2024, arXiv 2403.19522)::

        w = t·w̄ + (1 − t)·w⁰,   t = stock_share(cos θ, N),   for each tensor by itself

    w̄ is the mean of the N models and cos θ the mean, over pairs of models, of the cosine between
    their changes w_i − w⁰ in this tensor. A tensor that some model leaves as it was stays w̄.

    Args:
        start: state_dict w⁰ of the weights that all models start from.
        names: names of the models, at least two.
        read: name -> its state_dict.

    Raises:
        ValueError: there are fewer than two models.
    """
    n = len(names)
    if n < 2:
        raise ValueError(f"Model Stock needs at least two models, got {n}")
    mean, units, still = Mean(), {}, set()
    for name in names:
        state = read(name)
        mean.add(state)
        for key, w0 in start.items():
            if w0.is_floating_point():
                change = (state[key] - w0).double()
                length = change.norm()
                if length > 0:
                    units[key] = units.get(key, 0) + change / length
                else:
                    still.add(key)
    found = {}
    for key, value in mean.state.items():
        if key in still or key not in units:
            found[key] = value
            continue
        # ‖Σ u_i‖² = N + Σ_{i≠j} ⟨u_i, u_j⟩ for N unit vectors
        cosine = (units[key].square().sum().item() - n) / (n * (n - 1))
        found[key] = start[key].lerp(value, stock_share(cosine, n))
    return found
