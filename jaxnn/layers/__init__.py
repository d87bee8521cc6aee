"""Layers: layers with params, and layer forms of the functions in `ops`, one file for each family."""

from jaxnn.layers._activation import maxout, perceptron, prelu
from jaxnn.layers._attention import attention
from jaxnn.layers._conv import conv, conv_transpose, depthwise_conv, separable_conv
from jaxnn.layers._experts import mixture_of_experts
from jaxnn.layers._linear import dense, embed, flatten, identity, unembed
from jaxnn.layers._lora import lora, merge_lora
from jaxnn.layers._noise import alpha_dropout, dropout, gaussian_noise, spatial_dropout, stochastic_depth
from jaxnn.layers._norm import batch_norm, group_norm, instance_norm, layer_norm, local_response_norm, rms_norm
from jaxnn.layers._pool import (
    adaptive_avg_pool,
    adaptive_max_pool,
    avg_pool,
    global_avg_pool,
    global_max_pool,
    lp_pool,
    max_pool,
)
from jaxnn.layers._positions import class_token, learned_positions, sinusoidal_positions
from jaxnn.layers._recurrent import conv_lstm, gru, lstm, rnn
from jaxnn.layers._reparametrize import spectral_norm, weight_norm
from jaxnn.layers._resize import depth_to_space, pad, space_to_depth, upsample
from jaxnn.layers._transformer import decoder_block, encoder_block, patches

__all__ = [
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "alpha_dropout",
    "attention",
    "avg_pool",
    "batch_norm",
    "class_token",
    "conv",
    "conv_lstm",
    "conv_transpose",
    "decoder_block",
    "dense",
    "depth_to_space",
    "depthwise_conv",
    "dropout",
    "embed",
    "encoder_block",
    "flatten",
    "gaussian_noise",
    "global_avg_pool",
    "global_max_pool",
    "group_norm",
    "gru",
    "identity",
    "instance_norm",
    "layer_norm",
    "learned_positions",
    "local_response_norm",
    "lora",
    "lp_pool",
    "lstm",
    "max_pool",
    "maxout",
    "merge_lora",
    "mixture_of_experts",
    "pad",
    "patches",
    "perceptron",
    "prelu",
    "rms_norm",
    "rnn",
    "separable_conv",
    "sinusoidal_positions",
    "space_to_depth",
    "spatial_dropout",
    "spectral_norm",
    "stochastic_depth",
    "unembed",
    "upsample",
    "weight_norm",
]
