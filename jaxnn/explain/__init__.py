"""Explanations of trained models: attributions of a score to the input, and looks at layers, inputs and losses.

Attributions are `method(model, params, state, x, *, target=None)`: pure functions of a batch x [n, ...], in inference
mode, of any layer or function. `target` has one meaning for all methods: None explains the output of the predicted
class, an integer or integers [n] the output of given classes, and a function `outputs -> scores [n]` anything else.
`from_layer` explains by the output of an inner layer, such as the embedding of tokens.

Inner layers are named by their paths, as in `nn.capture`: `activations` of many examples, the `maximal_patches` of
images, `pca`, `tsne`, `neighbours`, `linear_probes` and `cka` of these; `activation_maximization` and `deep_dream` make
inputs for them. `landscape` evaluates a loss on planes through the params. All return arrays, and `plot` draws them.

Methods are compiled once for each model, whether or not they are called under `jit`.
"""

from typing import TYPE_CHECKING

from jaxnn import _elsewhere
from jaxnn.explain import plot
from jaxnn.explain._cam import grad_cam, grad_cam_plus_plus, score_cam
from jaxnn.explain._components import PCA, pca, tsne
from jaxnn.explain._features import activations, neighbours, to_layer
from jaxnn.explain._fields import Patches, maximal_patches, receptive_field
from jaxnn.explain._filters import filters
from jaxnn.explain._gradients import input_x_gradient, integrated_gradients, saliency, smooth_grad
from jaxnn.explain._inner import Inner, from_layer
from jaxnn.explain._landscape import Trajectory, landscape, random_direction, trajectory_directions
from jaxnn.explain._occlusion import occlusion
from jaxnn.explain._probes import linear_probe, linear_probes
from jaxnn.explain._relus import deconvnet, guided_backprop
from jaxnn.explain._rollout import attention_rollout
from jaxnn.explain._sanity import pointing_game, randomized
from jaxnn.explain._shapley import shapley_values
from jaxnn.explain._similarity import cka, cka_matrix
from jaxnn.explain._synthesis import activation_maximization, deep_dream

__all__ = [
    "PCA",
    "Inner",
    "Patches",
    "Trajectory",
    "activation_maximization",
    "activations",
    "attention_rollout",
    "cka",
    "cka_matrix",
    "deconvnet",
    "deep_dream",
    "filters",
    "from_layer",
    "grad_cam",
    "grad_cam_plus_plus",
    "guided_backprop",
    "input_x_gradient",
    "integrated_gradients",
    "landscape",
    "linear_probe",
    "linear_probes",
    "maximal_patches",
    "neighbours",
    "occlusion",
    "pca",
    "plot",
    "pointing_game",
    "random_direction",
    "randomized",
    "receptive_field",
    "saliency",
    "score_cam",
    "shapley_values",
    "smooth_grad",
    "to_layer",
    "trajectory_directions",
    "tsne",
]


if not TYPE_CHECKING:

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
