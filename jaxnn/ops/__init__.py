"""Functions on raw arrays, without params and without state."""

from typing import TYPE_CHECKING

from jaxnn import _elsewhere
from jaxnn.ops._attention import attention, rotary, rotary_tables, sinusoidal
from jaxnn.ops._boxes import (
    anchors,
    box_centers,
    box_corners,
    box_decode,
    box_encode,
    box_giou,
    box_iou,
    non_maximum_suppression,
    roi_align,
)
from jaxnn.ops._conv import conv, conv_transpose, depthwise_conv
from jaxnn.ops._grid import affine_grid, grid_sample
from jaxnn.ops._norm import (
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    lp_normalize,
    moments,
    normalize,
    rms_norm,
)
from jaxnn.ops._pad import pad
from jaxnn.ops._perceptron import perceptron_update
from jaxnn.ops._pool import (
    adaptive_avg_pool,
    adaptive_max_pool,
    avg_pool,
    global_avg_pool,
    global_max_pool,
    lp_pool,
    max_pool,
    max_pool_with_indices,
    max_unpool,
)
from jaxnn.ops._recurrent import conv_lstm, gru, lstm, rnn
from jaxnn.ops._resize import depth_to_space, resize, space_to_depth
from jaxnn.ops._unfold import fold, unfold

__all__ = [
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "affine_grid",
    "anchors",
    "attention",
    "avg_pool",
    "box_centers",
    "box_corners",
    "box_decode",
    "box_encode",
    "box_giou",
    "box_iou",
    "conv",
    "conv_lstm",
    "conv_transpose",
    "depth_to_space",
    "depthwise_conv",
    "fold",
    "global_avg_pool",
    "global_max_pool",
    "grid_sample",
    "group_norm",
    "gru",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "lp_normalize",
    "lp_pool",
    "lstm",
    "max_pool",
    "max_pool_with_indices",
    "max_unpool",
    "moments",
    "non_maximum_suppression",
    "normalize",
    "pad",
    "perceptron_update",
    "resize",
    "rms_norm",
    "rnn",
    "roi_align",
    "rotary",
    "rotary_tables",
    "sinusoidal",
    "space_to_depth",
    "unfold",
]


if not TYPE_CHECKING:  # keeps unknown names an error for type checkers

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
