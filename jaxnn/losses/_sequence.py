"""Sequence losses: connectionist temporal classification."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import widened
from jaxnn._errors import describe, invalid
from jaxnn.losses._checks import _at_least_0, _costs, _masked

__all__ = ["ctc"]


def ctc(
    logits: ArrayLike,
    labels: ArrayLike,
    logit_lengths: ArrayLike,
    label_lengths: ArrayLike,
    *,
    blank: int = 0,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Connectionist temporal classification (CTC) loss, [n, t, k], integer [n, l], [n], [n] -> [n]:

        -log Σ_π Π_t softmax(x_t)_π(t)

    The sum runs over all alignments π of the labels with the frames: each label covers one or more consecutive frames,
    blanks may stand anywhere between labels, and at least one blank separates two equal labels. Range [0, inf), in
    nats.

    Use it for speech and handwriting recognition, where the alignment of labels with frames is unknown. CTC assumes
    that frames are conditionally independent, and tends to predict blanks with narrow spikes. A constant added to all
    logits of a frame changes neither loss nor gradient.

    Computed by the forward recursion in log space. The rounding error is relative to -log of the most likely alignment,
    which is larger than the loss where very many alignments share the probability.

    Args:
      logits: unnormalised log-probabilities of k classes (k - 1 labels and the blank) for each frame, floating.
      labels: integers from 0 to k - 1, without the blank. Entries beyond the label length are padding of any value.
      logit_lengths: number of valid frames, integers from 0 to t. Later frames affect nothing and get no gradient.
      label_lengths: number of valid labels, integers from 0 to l.
      blank: class number of the blank, 0 <= blank < k.
      weights: scalar or [n]; multiplies the loss.
      where: boolean mask [n]; False sets loss and gradient of a sequence to exactly 0.

    Returns:
      [n] losses. If there are too few frames for the labels, the loss is inf and its gradient 0. Labels or lengths out
      of range give NaN.

    Raises:
      TypeError: if logits are not floating, or labels, lengths or `blank` are not integers.
      ValueError: if the shapes do not fit or `blank` is out of range.

    Differences: PyTorch's CTCLoss takes log-probabilities [t, n, k], its mean divides by the label lengths, and its
    gradient is 0 at an infinite loss only with `zero_infinity`. optax gives about 1e5 instead of inf. Keras's CTC masks
    by the blank.

    Reference: Graves et al., Connectionist Temporal Classification, 2006.

    >>> x, frames, length = jnp.zeros((1, 2, 2)), jnp.array([2]), jnp.array([1])
    >>> ctc(x, jnp.array([[1]]), frames, length).tolist()  # -log(3/4): 3 of 4 alignments give label 1
    [0.287...]
    """
    x = check.array_like("ctc", "logits", logits)
    if x.ndim != 3 or not x.shape[2]:
        raise invalid("ctc", "logits of shape [n, t, k] with k >= 1", x)
    n, frames, k = x.shape
    labels = _whole("labels", labels, (n, None), x)
    logit_lengths = _whole("logit_lengths", logit_lengths, (n,), x)
    label_lengths = _whole("label_lengths", label_lengths, (n,), x)
    blank = check.count("ctc", "blank", blank, least=0, most=k - 1)

    def loss(x: Array, y: Array, frames_of: Array, labels_of: Array) -> Array:
        used = jnp.arange(y.shape[1])[None, :] < labels_of[:, None]
        strange = used & ((y < 0) | (y >= k) | (y == blank))
        fit = (frames_of >= 0) & (frames_of <= frames) & (labels_of >= 0) & (labels_of <= y.shape[1])
        sound = fit & ~strange.any(axis=1)
        repeats = (used[:, 1:] & (y[:, 1:] == y[:, :-1])).sum(axis=1)
        y = jnp.where(used & ~strange, y, 0)
        value = _alignments(x, y, frames_of, labels_of, blank) * jnp.where(sound, 1.0, jnp.nan).astype(x.dtype)
        return jnp.where((labels_of + repeats > frames_of) & sound | (value > -_NEVER / 2), jnp.inf, value)

    return _masked("ctc", loss, [widened(x), labels, logit_lengths, label_lengths], (n,), weights, where)


_NEVER = -1e30  # stands for log 0: finite, because 0 · inf is NaN, and far below any sum of log-probabilities


def _alignments(x: Array, y: Array, frames_of: Array, labels_of: Array, blank: int) -> Array:
    """-log of the total probability of all alignments, by the forward recursion over frames.

    After each frame, `blanks[:, i]` and `labels[:, i]` hold the log-probability of all alignments of the frames so far
    with the first i labels that end in a blank or in label i, respectively.
    """
    live = jnp.arange(x.shape[1])[None, :] < frames_of[:, None]
    logs = -_costs(jnp.where(live[:, :, None], jnp.maximum(x, _NEVER), 0))
    label_logs = jnp.take_along_axis(logs, y[:, None, :], axis=2)
    never = jnp.full((len(x), 1), _NEVER, x.dtype)
    first = jnp.zeros((len(x), min(1, y.shape[1])), bool)
    leap = jnp.where(jnp.concatenate([first, y[:, 1:] == y[:, :-1]], axis=1), _NEVER, jnp.zeros((), x.dtype))

    def step(carry: tuple[Array, Array], frame: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], None]:
        blanks, labels = carry
        blank_log, label_log, counts = frame
        entered = jnp.logaddexp(blanks[:, :-1], labels[:, :-1] + leap)  # from a blank, or from a different label
        new_labels = jnp.concatenate([never, jnp.logaddexp(entered, labels[:, 1:]) + label_log], axis=1)
        new_blanks = jnp.logaddexp(blanks, labels) + blank_log
        return (jnp.where(counts, new_blanks, blanks), jnp.where(counts, new_labels, labels)), None

    labels = jnp.tile(never, (1, y.shape[1] + 1))
    frames = jax.tree.map(lambda a: a.swapaxes(0, 1), (logs[:, :, blank, None], label_logs, live[:, :, None]))
    (blanks, labels), _ = jax.lax.scan(step, (labels.at[:, 0].set(0), labels), frames)
    last = jnp.clip(labels_of, 0, y.shape[1])[:, None]
    return _at_least_0(-jnp.take_along_axis(jnp.logaddexp(blanks, labels), last, axis=1).squeeze(1))


def _whole(what: str, value: ArrayLike, shape: tuple[int | None, ...], x: Array) -> Array:
    """Integer array `value` of the given shape, in which None matches any size."""
    check.kind("ctc", what, value, "integer")
    got = jnp.shape(value)
    if len(got) != len(shape) or any(a not in (None, b) for a, b in zip(shape, got, strict=True)):
        sizes = ", ".join("l" if size is None else str(size) for size in shape)
        raise invalid("ctc", f"{what} of shape [{sizes}] for logits {describe(x)}", value)
    array = jnp.asarray(value)
    return array if array.dtype.itemsize >= 4 else array.astype(jnp.int32)
