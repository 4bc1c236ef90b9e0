"""The method in the paper's symbols, slow and readable: plain Python numbers, lists and loops.

Written from Mao et al. (arXiv 2211.16175) and the agreed reading of it, and sharing no operation
with the package. Vectors are lists of floats, matrices lists of rows. Letters as everywhere: B
batch, D embedding, K classes, M contexts.
"""

import math


def length(v):
    return math.sqrt(math.fsum(x * x for x in v))


def normalise(v):
    n = length(v)
    return [x / n for x in v]


def dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b))


def mean_vector(vectors):
    return [math.fsum(column) / len(vectors) for column in zip(*vectors)]


def W_ctx(g):
    """g[m][k] is the text feature of context m and class k; one row per context."""
    rows = []
    for m in range(len(g)):
        rows.append(normalise(mean_vector([normalise(g[m][k]) for k in range(len(g[m]))])))
    return rows


def W_cls(g):
    """One row per class."""
    rows = []
    for k in range(len(g[0])):
        rows.append(normalise(mean_vector([normalise(g[m][k]) for m in range(len(g))])))
    return rows


def log_softmax(a):
    top = max(a)
    log_sum = top + math.log(math.fsum(math.exp(x - top) for x in a))
    return [x - log_sum for x in a]


def log_p_ctx(f, W, tau):
    """Log-probabilities of the contexts for ONE image feature f."""
    z = normalise(f)
    return log_softmax([tau * dot(z, w) for w in W])


def p_ctx(f, W, tau):
    return [math.exp(x) for x in log_p_ctx(f, W, tau)]


def kl(log_p, log_q):
    """KL(p ‖ q) = Σ p log(p / q)."""
    return math.fsum(math.exp(lp) * (lp - lq) for lp, lq in zip(log_p, log_q))


def R(f, f0, W, tau, direction="forward"):
    """The regulariser: mean over the images of KL(p0_ctx ‖ p_ctx), or the other way round."""
    total = 0.0
    for student, frozen in zip(f, f0):
        log_p, log_p0 = log_p_ctx(student, W, tau), log_p_ctx(frozen, W, tau)
        total += kl(log_p0, log_p) if direction == "forward" else kl(log_p, log_p0)
    return total / len(f)


def CE(logits, y):
    return -math.fsum(log_softmax(row)[label] for row, label in zip(logits, y)) / len(y)


def L(logits, y, f, f0, W, tau, lam):
    return CE(logits, y) + lam * R(f, f0, W, tau)


def clip_pixel(value, mean, std, clip_mean, clip_std):
    """One normalised value of one channel: back to [0, 1], then to CLIP's normalisation."""
    pixel = value * std + mean
    return (pixel - clip_mean) / clip_std
