"""Models: published architectures as factories of layers, made of the library's layers and combinators.

Images are [n, h, w, c], and results are logits. Names of children mean something: `stem/conv/w`,
`stage2/block1/conv1/w`, `head/w`. `preset` selects the default initialization of another library, as in the layers.
"""

from typing import TYPE_CHECKING

from jaxnn import _elsewhere
from jaxnn.models._autoencoder import autoencoder, vae
from jaxnn.models._bert import bert
from jaxnn.models._char_rnn import char_rnn
from jaxnn.models._crepe import crepe
from jaxnn.models._dcgan import dcgan_discriminator, dcgan_generator
from jaxnn.models._ddpm_unet import ddpm_unet
from jaxnn.models._efficientnet import efficientnet
from jaxnn.models._gpt import gpt
from jaxnn.models._hed import hed
from jaxnn.models._lenet import lenet
from jaxnn.models._lrcn import lrcn
from jaxnn.models._mlp import mlp
from jaxnn.models._mobilenet import mobilenet_v2
from jaxnn.models._mtcnn import mtcnn
from jaxnn.models._resnet import resnet
from jaxnn.models._siamese import siamese
from jaxnn.models._silero_vad import silero_vad
from jaxnn.models._unet import unet
from jaxnn.models._vgg import vgg
from jaxnn.models._vit import vit
from jaxnn.models._wide_resnet import wide_resnet

__all__ = [
    "autoencoder",
    "bert",
    "char_rnn",
    "crepe",
    "dcgan_discriminator",
    "dcgan_generator",
    "ddpm_unet",
    "efficientnet",
    "gpt",
    "hed",
    "lenet",
    "lrcn",
    "mlp",
    "mobilenet_v2",
    "mtcnn",
    "resnet",
    "siamese",
    "silero_vad",
    "unet",
    "vae",
    "vgg",
    "vit",
    "wide_resnet",
]


if not TYPE_CHECKING:  # lets type checkers report names that do not exist

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
