"""Muon: momentum of matrices, orthogonalized by Newton-Schulz iterations."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike
from optax import GradientTransformationExtraArgs

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._dtypes import wide_dtype
from jaxnn._moments import Average, Time, bounded, floored, nan_of, root
from jaxnn._numbers import number
from jaxnn.optimizers._adam import adam_rule
from jaxnn.optimizers._checks import check_coefficients, check_flags, check_numbers
from jaxnn.optimizers._decay import Rate, Strengths, WeightDecay, rate
from jaxnn.optimizers._lift import Included, SlotValues, per_leaf, real_f32
from jaxnn.optimizers._trust_ratio import norm
from jaxnn.types import Arrays, Mask, Schedule

# Coefficients (a, b, c) of X <- a X + b (X X*) X + c (X X*)² X: Jordan's, with the steepest slope at 0, and a row for
# each step from Dion.
COEFFICIENTS: dict[str, Any] = {
    "standard": (3.4445, -4.7750, 2.0315),
    "dion": (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
}
PRECONDITIONINGS = ("frobenius", "spectral", "aol", "schatten")


@recorded
def muon(
    learning_rate: Schedule,
    ns_coeffs: Arrays = COEFFICIENTS["standard"],
    ns_steps: int = 5,
    beta: ArrayLike = 0.95,
    eps: ArrayLike = 1e-8,
    weight_decay: Schedule = 0.0,
    weight_decay_mask: Mask = None,
    mu_dtype: DTypeLike | None = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    adam_b1: ArrayLike = 0.9,
    adam_b2: ArrayLike = 0.999,
    adam_eps_root: ArrayLike = 0.0,
    adam_weight_decay: Schedule = 0.0,
    adam_learning_rate: Schedule | None = None,
    consistent_rms: ArrayLike | None = None,
) -> GradientTransformationExtraArgs:
    """Muon for every matrix [n, m] -> [n, m], and AdamW for arrays of other ranks: orthogonalized momentum.

        m <- m + (1 - beta)(g - m);   m̂ = m / (1 - beta^t), with Nesterov's look ahead as in `nadam`
        X = m̂ / (|m̂| + eps);   ns_steps times   X <- a X + b (X X*) X + c (X X*)² X
        update = -lr (sqrt(max(1, m / n)) X + λ p)

    All singular values of X are near 1 (0.7 to 1.2): directions with small gradients move as far as others. Biases,
    norms and kernels of convolutions get AdamW. For embeddings and the last layer, which are matrices, Adam is
    recommended: nn.by_path({"embed/*": nn.adam(1e-3), "*": nn.muon(0.02)}).

    Args:
      learning_rate: lr >= 0: a number, a traced scalar, or a schedule (updates so far -> rate). About 0.02.
      ns_coeffs: (a, b, c) for all steps, a sequence of them for one step each, or the name of such, "standard" or
        "dion".
      ns_steps: number of steps with a single (a, b, c), >= 1.
      beta: decay of m, in [0, 1). Slot `mu`.
      eps: >= 0, added to the norm of m̂, and to the root of Adam's v.
      weight_decay: λ >= 0 for matrices, decoupled: a number, a traced scalar or a schedule.
      weight_decay_mask: the matrices that decay, as `mask` in `adam`; None is all.
      mu_dtype: dtype of `mu`; None is the parameter's, at least float32.
      nesterov: Nesterov momentum, for Adam as well.
      adaptive: multiply X by <m̂, X>, so that the update grows with the gradient.
      preconditioning: norm by which m̂ is divided before the first step: "frobenius"; "spectral", exact and slow; "aol"
        or "schatten", row sums or the Frobenius norm of X X*, which start nearer to 1 and may save a step.
      adam_b1, adam_b2, adam_eps_root: as b1, b2 and eps_root in `adamw`, for arrays that are not matrices. Slot `nu`,
        of shape [1] for matrices.
      adam_weight_decay: λ >= 0 of the other arrays.
      adam_learning_rate: rate of the other arrays; None is lr.
      consistent_rms: target of the root mean square of an update, > 0: the factor is sqrt(max(n, m)) · consistent_rms
        instead of sqrt(max(1, m / n)). 0.2 makes updates as large as Adam's. None for the latter.

    Returns: an optimizer that is not elementwise; `update` requires params for weight decay.

    Raises: ValueError for a number out of its range, TypeError for an argument of the wrong type.

    Differences: The formula is that of optax.contrib.muon, which also takes `muon_weight_dimension_numbers`, to reshape
      arrays of other ranks to matrices. PyTorch's Muon takes matrices only and has momentum that is not debiased.
      Slots are at least float32, the state is one dict for all arrays, and norms do not overflow.

    Reference: Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024; Bernstein and Newhouse, Old
      optimizer, new norm, 2024; Liu et al., Muon is scalable for LLM training, 2025 (consistent_rms); Boissin et al.,
      Turbo-Muon, 2025 (aol).

    >>> opt, p = muon(0.5), jnp.ones((3, 2))
    >>> update, _ = opt.update(jnp.array([[5.0, 0.0], [0.0, 0.1], [0.0, 0.0]]), opt.init(p), p)
    >>> jnp.linalg.svd(update, compute_uv=False).tolist()
    [0.3..., 0.3...]
    """
    name = "muon"
    check_flags(name, nesterov=nesterov, adaptive=adaptive)
    check.choice(name, "preconditioning", preconditioning, PRECONDITIONINGS)
    check_numbers(name, beta=beta, adam_b1=adam_b1, adam_b2=adam_b2, adam_eps_root=adam_eps_root)
    if consistent_rms is not None:
        check_numbers(name, consistent_rms=consistent_rms)
    rows = check_coefficients(name, ns_coeffs, COEFFICIENTS, check.count(name, "ns_steps", ns_steps))
    adam_slots, adam = adam_rule(name, adam_b1, adam_b2, eps, adam_eps_root, mu_dtype, nesterov)
    rate_at = rate(name, "learning_rate", learning_rate)
    others_at = rate_at if adam_learning_rate is None else rate(name, "adam_learning_rate", adam_learning_rate)
    average = Average(beta)

    def factor(g: Array) -> Any:
        n, m = g.shape
        if consistent_rms is None:
            return max(1.0, m / max(n, 1)) ** 0.5
        return max(n, m) ** 0.5 * number(consistent_rms, g)

    def matrix(g: Array, s: SlotValues, t: Time) -> tuple[Array, SlotValues]:
        g = bounded(g) + nan_of(g).astype(g.dtype)
        mu = average.update(s["mu"], g)
        look = average.debias_nesterov(mu, g, t) if nesterov else average.debias(mu, t)
        x = orthogonalized(look, rows, preconditioning, eps)
        x = x * jnp.sum(look.conj() * x) if adaptive else x
        return x * factor(g), {**s, "mu": mu}

    def step(g: Array, s: SlotValues, p: Arrays, t: Time) -> tuple[Array, SlotValues]:
        lr, (direction, new) = (lr_matrix, matrix(g, s, t)) if g.ndim == 2 else (lr_other, adam(g, s, p, t))
        return number(t.once(lr, jnp.finfo(g.dtype).dtype), g) * direction, new

    def lr_matrix(t: Array, dtype: DTypeLike) -> Any:
        return rate_at(t)

    def lr_other(t: Array, dtype: DTypeLike) -> Any:
        return others_at(t)

    def start(p: Arrays) -> Array:
        return jnp.zeros(1, jnp.finfo(wide_dtype(p.dtype)).dtype) if p.ndim == 2 else real_f32(p)

    weights = WeightDecay(weight_decay, weight_decay_mask), WeightDecay(adam_weight_decay, argument="adam_weight_decay")
    decay = DecayByRank(*weights, rate_at, others_at)
    return per_leaf(name, {**adam_slots, "nu": start}, step, Included(lambda t: 1.0), decay, elementwise=False)


class DecayByRank(NamedTuple):
    """Decoupled weight decay, one for matrices and one for arrays of other ranks, each multiplied by its rate."""

    matrices: WeightDecay
    others: WeightDecay
    matrix_rate: Rate
    other_rate: Rate
    mask: Mask = None
    decoupled: bool = True

    def checked(self, name: str) -> Strengths:
        """The λ lr of every leaf; raises TypeError or ValueError for a number that is not valid."""
        of_matrices, of_others = self.matrices.checked(name), self.others.checked(name)

        def strengths(t: Array, params: Arrays, leaves: int) -> list[Any]:
            here, there = of_matrices(t, params, leaves), of_others(t, params, leaves)
            if not (self.matrices.on or self.others.on):
                return here
            chosen = []
            for p, matrix, other in zip(jax.tree.leaves(params), here, there, strict=True):
                value, rate = (matrix, self.matrix_rate) if jnp.ndim(p) == 2 else (other, self.other_rate)
                chosen.append(None if value is None else value * rate(t))
            return chosen

        return strengths


def orthogonalized(x: Array, rows: Any, preconditioning: str, eps: Any) -> Array:
    """A matrix with the singular vectors of `x` and singular values near 1, [n, m] -> [n, m].

    Args:
      rows: coefficients (a, b, c) of each step.
      preconditioning, eps: as in `muon`.
    """
    if not x.size:
        return x
    if x.shape[0] > x.shape[1]:  # the smaller of the two products
        return orthogonalized(x.T, rows, preconditioning, eps).T
    size = norm(x)
    if preconditioning == "spectral":
        unit = x / floored(size).astype(x.dtype)
        x = unit / (jnp.linalg.norm(unit, ord=2) + number(eps, size) / floored(size)).astype(x.dtype)
    else:
        x = x / floored(size + number(eps, size)).astype(x.dtype)
    for i, (a, b, c) in enumerate(rows):
        product = x @ x.conj().T
        if i == 0 and preconditioning in ("aol", "schatten"):
            sums = jnp.abs(product).sum(axis=1) if preconditioning == "aol" else norm(product)[None]
            scale = (1 / floored(root(sums))).astype(x.dtype)
            x, product = x * scale[:, None], product * scale[:, None] * scale[None, :]
        x = number(a, x) * x + (number(b, x) * product + number(c, x) * product @ product) @ x
    return x
