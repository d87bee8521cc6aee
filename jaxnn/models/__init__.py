"""Models: published architectures as factories of layers, made of the library's layers and combinators.

Images are [n, h, w, c], and results are logits. Names of children mean something: `stem/conv/w`,
`stage2/block1/conv1/w`, `head/w`. `preset` selects the default initialization of another library, as in the layers.
"""

from typing import TYPE_CHECKING

from jaxnn import _elsewhere
from jaxnn.models._efficientnet import efficientnet
from jaxnn.models._lenet import lenet
from jaxnn.models._mlp import mlp
from jaxnn.models._mobilenet import mobilenet_v2
from jaxnn.models._resnet import resnet, wide_resnet
from jaxnn.models._vgg import vgg

__all__ = [
    "efficientnet",
    "lenet",
    "mlp",
    "mobilenet_v2",
    "resnet",
    "vgg",
    "wide_resnet",
]


if not TYPE_CHECKING:  # lets type checkers report names that do not exist

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
