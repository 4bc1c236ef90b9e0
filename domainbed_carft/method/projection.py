"""Weights kept within learned distances of their start: FTP (Tian et al., NeurIPS 2023).

arXiv 2310.19182. The formulas are those of the authors' code (GT-RIPL/FTP, 1f8dd44).
"""

import torch

RATE, BETAS, SMALL = 1e-2, (0.9, 0.999), 1e-8  # of the Adam that learns the radii; the first radius


class Projection:
    """Fast trainable projection: after each step of an optimizer, weights move back to their start.

    Each tensor W has a start W⁰ and a radius γ. With the optimizer's new weights W and, for each
    row i of their change, its norm n_i = Σ_j |W_ij − W⁰_ij|::

        W_i ← W⁰_i + min(γ / n_i, 1) · (W_i − W⁰_i)

    γ starts at 1e-8, so the first step hardly moves. From then on Adam with learning rate 0.01
    learns it, within 1e-8 and the largest n_i, by its gradient at the weights of the step before::

        dL/dγ = Σ_i ⟨dL/dW_i, C_i⟩ / n_i        C: the change W − W⁰ of that step, not projected

    A positive gradient, which makes γ smaller, is multiplied by k. Rows are those of the first
    axis. A vector is one row. Tensors without a gradient are left alone.

    It is not a module, so it adds nothing to its owner's state_dict.

    Args:
        parameters: the tensors W, which hold W⁰ now.
        k: in [0, 1]; 1 is the strongest projection.
    """

    def __init__(self, parameters, k=1.0):
        self.parameters, self.k = list(parameters), k
        self.starts = [p.detach().clone() for p in self.parameters]
        self.steps, self.states = 0, {}  # {place: {name: tensor}} of tensors that had gradients

    @torch.no_grad()
    def project(self):
        """Project the weights after an optimizer's step. The gradients of that step are read."""
        self.steps += 1
        for i, p in enumerate(self.parameters):
            if p.grad is None:
                continue
            if self.starts[i].device != p.device:
                self.starts[i] = self.starts[i].to(p.device)
            change = p - self.starts[i]
            norms = _row_sums(change.abs()) + SMALL
            state = self.states.get(i)
            if state is None:
                zero = norms.new_zeros(())
                state = self.states[i] = {"radius": zero + SMALL, "first": zero, "second": zero}
            else:
                self._learn(state, p.grad, norms.max())
            p.copy_(self.starts[i] + (state["radius"] / norms).clamp(0, 1) * change)
            state["change"], state["norms"] = change, norms

    def _learn(self, state, gradient, largest):
        """Take one step of Adam on a radius, in place."""
        slope = (_row_sums(gradient * state["change"]) / state["norms"]).sum()
        slope = torch.where(slope > 0, self.k * slope, slope)
        slope = torch.where(slope.isfinite(), slope, 0)  # an fp16 step that the scaler left out
        for name, beta, value in zip(("first", "second"), BETAS, (slope, slope.square())):
            state[name] = beta * state[name] + (1 - beta) * value
        first, second = (
            state[name] / (1 - beta**self.steps) for name, beta in zip(("first", "second"), BETAS)
        )
        radius = state["radius"] - RATE * first / (second.sqrt() + SMALL)
        state["radius"] = radius.clamp(min=SMALL).minimum(largest)

    def state_dict(self):
        """Return what a resumed run needs to go on with the same numbers, beside the weights."""
        return {"steps": self.steps, "states": {i: dict(s) for i, s in self.states.items()}}

    def load_state_dict(self, state):
        self.steps = state["steps"]
        self.states = {
            i: {name: value.to(self.parameters[i].device) for name, value in found.items()}
            for i, found in state["states"].items()
        }


def _row_sums(x):
    """Return the sum of each row of the first axis; of all elements, if there is but one axis."""
    if x.dim() < 2:
        return x.sum()
    return x.sum(dim=tuple(range(1, x.dim())), keepdim=True)
