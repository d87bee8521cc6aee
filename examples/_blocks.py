"""Blocks of two convolutions in three orders: stacked, residual and pre-activation; networks of such blocks."""

import jaxnn as nn

STACKED, RESIDUAL, PRE = "stacked", "residual", "pre-activation"


def conv(features: int, kernel_size: int = 3) -> nn.Layer:
    """A convolution before or after a norm, so without biases."""
    return nn.conv(features, kernel_size, bias=False)


def norm() -> nn.Layer:
    """Batch norm and relu."""
    return nn.serial(nn.batch_norm(), nn.relu)


def block(kind: str, features: int) -> nn.Layer:
    """Two 3×3 convolutions with norms and relus: in sequence, with a skip connection, or with pre-activation too."""
    if kind == PRE:
        return nn.residual(nn.serial(norm(), conv(features), norm(), conv(features)))
    body = nn.serial(conv(features), norm(), conv(features), nn.batch_norm())
    return nn.serial(body if kind == STACKED else nn.residual(body), nn.relu)


def network(kind: str, *stages: nn.Layer) -> nn.Layer:
    """Logits after stages of convolutions; with pre-activation the first norm is moved behind the blocks."""
    return nn.serial(*stages, *([norm()] if kind == PRE else []), nn.global_avg_pool(), nn.dense(10))


def widen(kind: str, features: int, kernel_size: int = 3) -> nn.Layer:
    """A convolution that changes the number of channels."""
    return nn.serial(conv(features, kernel_size), *([] if kind == PRE else [norm()]))
