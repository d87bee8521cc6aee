"""The one table of wrong arguments: every number, flag and name of every public function, by class and frame of error.

The rule is that of `jaxnn._checks`: the wrong kind of thing is a TypeError, the right kind out of range a ValueError.
What a function takes is read off its signature; `INTERVALS` has the ranges of numbers, `KINDS` what no annotation says.
"""

import importlib
import inspect
import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn._errors import InvalidType, InvalidValue
from tests.conformance._signatures import CALLS

INF, NAN = math.inf, math.nan
POSITIVE, AT_LEAST_0, FINITE, ANY = (0, INF, "()"), (0, INF, "[)"), (-INF, INF, "()"), (-INF, INF, "[]")
SHARE, INSIDE, BELOW_1 = (0, 1, "[]"), (0, 1, "()"), (0, 1, "[)")

# The intervals of numbers: by the argument, or by the function and the argument where they differ.
INTERVALS = {
    "explain.pointing_game tolerance": AT_LEAST_0,
    **dict.fromkeys(("rate", "dropout", "b1", "b2", "rho", "decay", "momentum", "average"), BELOW_1),
    **dict.fromkeys(("muon beta", "adam_b1", "adam_b2"), BELOW_1),
    **dict.fromkeys(("adam_eps_root", "adam_weight_decay", "adam_learning_rate", "consistent_rms"), AT_LEAST_0),
    **dict.fromkeys(("decay_rate", "decay_offset", "weight_decay_rate", "trust_coefficient"), AT_LEAST_0),
    **dict.fromkeys(("eps", "stddev", "l1", "l2", "strength", "smooth", "gamma", "positive_weight"), AT_LEAST_0),
    **dict.fromkeys(("learning_rate", "weight_decay", "eps_root", "initial_scale", "min_step_size"), AT_LEAST_0),
    **dict.fromkeys(("initial_accumulator_value", "tversky alpha", "tversky beta"), AT_LEAST_0),
    **dict.fromkeys(("init.uniform scale", "init.orthogonal scale", "init.variance_scaling scale"), AT_LEAST_0),
    **dict.fromkeys(("softcap", "base", "margin", "temperature", "limit", "largest", "slope"), POSITIVE),
    **dict.fromkeys(("clipping_threshold", "max_step_size", "rprop learning_rate", "celu alpha"), POSITIVE),
    **dict.fromkeys(("upsample scale", "ops.resize by scale scale", "ops.roi_align scale"), POSITIVE),
    **dict.fromkeys(("at_zero", "negative_slope", "threshold", "alpha", "beta", "offset"), FINITE),
    **dict.fromkeys(("local_response_norm k", "ops.local_response_norm k", "ops.attention scale"), FINITE),
    **dict.fromkeys(("ops.perceptron_update learning_rate", "a", "points.uniform low", "high"), FINITE),
    **dict.fromkeys(("label_smoothing", "focal alpha", "batch_norm momentum", "dampening"), SHARE),
    **dict.fromkeys(("q", "fraction", "halving keep", "cross_entropy_on_probabilities eps"), INSIDE),
    "binary_cross_entropy_on_probabilities eps": INSIDE,
    "focal_on_probabilities eps": INSIDE,
    "focal_on_probabilities alpha": SHARE,
    "circle margin": SHARE,
    "diagnosis.fitted constant": ANY,
    "diagnosis.overfit_sample fraction": POSITIVE,
    "diagnosis.overfit_sample scale": AT_LEAST_0,
    **dict.fromkeys(("diagnosis.range_test low", "diagnosis.range_test high"), POSITIVE),
    "smoothing": BELOW_1,
    "rcond": BELOW_1,
    "ridge": AT_LEAST_0,
    "linear.classify threshold": SHARE,
    "linear.logistic_regression tolerance": POSITIVE,
    "circle gamma": POSITIVE,
    "points.log_uniform low": POSITIVE,
    "generate temperature": AT_LEAST_0,
    "generate top_p": (0, 1, "(]"),
    "absolute_percentage_error eps": INSIDE,
    "margin_ranking margin": AT_LEAST_0,
    **dict.fromkeys(("soft_shrink threshold", "hard_shrink threshold"), AT_LEAST_0),
    "hard_tanh low": FINITE,
    "cosine_embedding margin": SHARE,
    **dict.fromkeys(
        (
            "iou_threshold",
            "score_threshold",
            "lower",
            "upper",
            "zero_division",
            "unknown",
            "pad value",
            "ops.pad value",
        ),
        ANY,
    ),
    "huber delta": (0, INF, "(]"),
    "ops.lp_normalize p": (1, INF, "[]"),
    "lp_pool p": (1, INF, "[)"),
    "ops.lp_pool p": (1, INF, "[)"),
    "radam threshold": (4, INF, "[)"),
    **dict.fromkeys(("probability", "augment.cutout value"), SHARE),
    **{
        f"augment.{name} value": FINITE
        for name in (
            *("affine", "crop", "elastic", "perspective", "rand_augment", "rotate", "shear", "translate"),
            *("trivial_augment", "zoom"),
        )
    },
    "mask_value": FINITE,
    **dict.fromkeys(("augment.affine degrees", "augment.rotate degrees", "augment.translate fraction"), AT_LEAST_0),
    **dict.fromkeys(("augment.affine fraction", "augment.blur sigma", "augment.elastic alpha"), AT_LEAST_0),
    **dict.fromkeys(("augment.cutmix alpha", "augment.mixup alpha", "augment.solarize threshold"), AT_LEAST_0),
    **dict.fromkeys(("augment.affine strength", "augment.perspective strength", "augment.zoom strength"), BELOW_1),
    **dict.fromkeys(("augment.affine shear", "augment.shear degrees"), (0, 45, "[)")),
    "augment.elastic sigma": POSITIVE,
    "augment.hue strength": (0, 0.5, "[]"),
    "augment.rand_augment magnitude": (0, 30, "[]"),
    "explain.activation_maximization decay": AT_LEAST_0,
    "explain.deep_dream decay": AT_LEAST_0,
    "explain.activation_maximization learning_rate": POSITIVE,
    "explain.deep_dream learning_rate": POSITIVE,
    "capacity_factor": POSITIVE,
    "smoothness": AT_LEAST_0,
    "octave_scale": (1, INF, "()"),
    "bandwidth": POSITIVE,
    "perplexity": (0, 2, "()"),  # 2 examples
    "testing.check_optimizer learning_rate": POSITIVE,
    "testing.check_loss minimum": FINITE,
    "slack": POSITIVE,
    "eta_minus": BELOW_1,
    "eta_plus": (1, INF, "[)"),
}
MAY_BE_NAN = {"zero_division", "unknown", "value", "constant"}
STATIC = {
    "mixture_of_experts capacity_factor",
    "diagnosis.fitted constant",
    *("lp_pool p", "ops.lp_pool p", "ops.lp_normalize p", "sinusoidal_positions base", "ops.sinusoidal base"),
    *("ops.rotary_tables base", "ops.box_decode largest", "data.split fraction", "ops.resize a", "upsample a"),
    *("points.uniform low", "points.uniform high", "points.log_uniform low", "halving keep", "upsample scale"),
    *("explain.activation_maximization octave_scale", "explain.deep_dream octave_scale", "explain.tsne perplexity"),
    *("points.log_uniform high", "ops.resize by scale scale", "augment.elastic sigma"),
    *("testing.check_layer slack", "testing.check_loss minimum", "testing.check_loss slack"),
    *("testing.check_optimizer learning_rate", "testing.check_optimizer slack"),
}

# The kinds that an annotation does not tell: by the argument, or by the function and the argument.
KINDS = {
    **dict.fromkeys(("preset", "average", "reset", "coordinates", "rounding", "distribution", "mode"), "choice"),
    "padding_mode": "choice",
    "preconditioning": "choice",
    **dict.fromkeys(("init.preset name", "kind", "data.load name", "monitor", "strategy", "join"), "choice"),
    **dict.fromkeys(("trainer average", "objective_trainer average"), BELOW_1),
    **dict.fromkeys(("patience", "blank", "embed padding", "fan_in", "data.batches key"), "index"),
    **dict.fromkeys(("jitter", "seed", "sharding.fsdp least"), "index"),
    **dict.fromkeys(("points.integers low", "points.integers high", "ignore_label"), "integer"),
    **dict.fromkeys(("attention window", "ops.attention window"), "pair"),
    **dict.fromkeys(("path", "cache", "checkpoint"), "path"),
    **dict.fromkeys(("size", "kernel_size", "factor", "stride", "dilation"), "sizes"),
    **dict.fromkeys(("embed size", "attention size", "attention cache", "ops.anchors stride"), "count"),
    **dict.fromkeys(("local_response_norm size", "ops.local_response_norm size"), "count"),
    **dict.fromkeys(("ops.non_maximum_suppression size", "ops.rotary_tables size"), "count"),
    **dict.fromkeys(("direction", "fill", "method", "metric", "target"), "choice"),
    **dict.fromkeys(("augment.crop padding", "augment.cutout size"), "paddings"),
    "augment.blur kernel_size": "count",
    "testing.check_loss axes": "index",
    "output_padding": "paddings",
    "padding": "padding",
    "layer kind": "name",
    "name": "name",
    "param": "text",
    **dict.fromkeys(("call name", "mesh axes"), "text"),
    **dict.fromkeys(
        ("max_norm axis", "unit_norm axis", "dice axis", "tversky axis", "ops.moments axis", "ops.lp_normalize axis"),
        "any axes",
    ),
}
# What is no single number, flag or name: trees, patterns, sequences and the like have tests of their own.
ELSEWHERE = {
    *("where", "frozen", "metrics", "by_path groups", "shape", "changed", "scales", "ratios", "rungs", "rotary"),
    *(
        "iou_thresholds",
        "constraints",
        "platforms",
        "axis_name",
        "on_steps",
        "padded",
        "sizes",
        "ops.resize scale",
        "capture paths",
        "stop",
        "record",
        "limits",
    ),
    *("ns_coeffs", "dtype_momentum", "lars weight_decay_mask", "trust_ratio_mask"),
    *("area", "ratio", "augment.posterize bits"),
    "linear.logistic_regression class_weights",  # a name or an array: tests/linear
    "summary mesh",  # a mesh, too: tests/test_summary.py
    "ops.attention offset",  # one for each example, too
    "explain.integrated_gradients baseline",  # arrays, too: tests/explain
    "explain.shapley_values baseline",
    "explain.occlusion fill",
}

OPTIONAL = {  # None is 0
    *("adadelta weight_decay", "adamw weight_decay", "lion weight_decay", "lamb weight_decay", "lars weight_decay"),
    *("muon weight_decay", "muon adam_weight_decay"),
}
# One number, or one for each axis, or the two ends of an interval.
SEQUENCES = {
    *("upsample scale", "ops.resize by scale scale", "augment.affine degrees", "augment.affine fraction"),
    *("augment.affine shear", "augment.affine strength", "augment.blur sigma", "augment.noise stddev"),
    *("augment.rotate degrees", "augment.shear degrees", "augment.translate fraction"),
    *(f"augment.{name} strength" for name in ("brightness", "channel_shift", "contrast", "gamma", "hue", "saturation")),
    *("augment.sharpness strength", "augment.zoom strength", "explain.activations path"),
}
EAGER = {"drive", "halving", "sweep", "cross_validate"}  # these refuse to be traced at all

NUMBERS = {
    "a str": ("1", TypeError),
    "None": (None, TypeError),
    "a bool": (True, TypeError),
    "a list": ([1.0], TypeError),
    "a complex": (1j, TypeError),
    "a NumPy bool": (np.bool_(True), TypeError),
    "a row": (np.ones(2, np.float32), ValueError),
}
COUNTS = {
    "a str": ("1", TypeError),
    "None": (None, TypeError),
    "a bool": (True, TypeError),
    "a list": ([1.0], TypeError),
    "a float": (2.0, TypeError),
    "nan": (NAN, TypeError),
    "inf": (INF, TypeError),
}
NO_NAMES = {
    "an int": (3, TypeError),
    "a bool": (True, TypeError),
    "nan": (NAN, TypeError),
    "a list": (["a"], TypeError),
}
NOTHING, NEGATIVE, FAR = {"zero": (0, ValueError)}, {"negative": (-1, ValueError)}, {"too far": (9, ValueError)}
SEVERAL = {"too many": ((2,) * 4, ValueError)}
WRONG = {
    "integer": COUNTS,
    "count": COUNTS | NOTHING | NEGATIVE,
    "index": COUNTS | NEGATIVE,
    "axis": COUNTS | FAR | {"too far back": (-9, ValueError)},
    "axes": COUNTS | FAR | {"too far back": (-9, ValueError), "twice": ((0, 0), ValueError), "none": ((), ValueError)},
    "any axes": COUNTS | FAR | {"too far back": (-9, ValueError), "twice": ((0, 0), ValueError)},
    "sizes": COUNTS | NOTHING | NEGATIVE | SEVERAL,
    "paddings": COUNTS | NEGATIVE | SEVERAL,
    "padding": COUNTS | NEGATIVE | SEVERAL | {"a str": ("SAME", ValueError), "another": ("no such", ValueError)},
    "pair": {"an int": (3, TypeError), "a str": ("ab", TypeError), "floats": ((1.0, 2.0), TypeError)}
    | {"three": ((1, 1, 1), ValueError), "negative": ((-1, 0), ValueError)},
    "flag": {"a str": ("yes", TypeError), "None": (None, TypeError), "an int": (1, TypeError), "nan": (NAN, TypeError)}
    | {"a list": ([True], TypeError)},
    "name": NO_NAMES | {"a space": ("a b", ValueError), "a slash": ("a/b", ValueError)},
    "text": NO_NAMES | {"None": (None, TypeError)},
    "choice": NO_NAMES | {"None": (None, TypeError), "another": ("no such", ValueError), "empty": ("", ValueError)},
    "path": {
        "an int": (3, TypeError),
        "None": (None, TypeError),
        "nan": (NAN, TypeError),
        "a list": (["a"], TypeError),
    },
}
TRACED = {"integer", "count", "index", "axis", "axes", "sizes", "paddings", "padding", "flag"}


def wrong_numbers(low, below, ends, nan):
    """The numbers beside an interval, and what is no number."""
    wrong = dict(NUMBERS)
    for what, v in (("nan", NAN), ("inf", INF), ("-inf", -INF), ("low", low), ("below", below), ("under", low - 1)):
        inside = (low < v or (v == low and ends[0] == "[")) and (v < below or (v == below and ends[1] == "]"))
        if not (inside or (nan and v != v)):
            wrong[what] = (float(v), ValueError)
            wrong[f"NumPy, {what}"] = (np.float32(v), ValueError)
    return wrong


SCALAR = re.compile(r"\b(int|float|bool|str|Literal|Scalar|ScalarOrSchedule|Distribution|Mode|Strategy)\b")


def kind_of(case, p):
    """The kind of an argument, or the interval of a number; None for what is neither a number, a flag nor a name."""
    text = inspect.formatannotation(p.annotation).strip("'\"")
    own = f"{case} {p.name}"
    if own in KINDS or own in INTERVALS:
        return KINDS.get(own) or INTERVALS[own]
    if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) or p.name in ELSEWHERE or own in ELSEWHERE:
        return None
    plain = SCALAR.search(text) and not re.search(r"Sequence\[(str|float)\]|Mapping", text)
    if not plain and not isinstance(p.default, bool | int | float | str):
        return INTERVALS.get(p.name) if text == "ArrayLike" else None
    if p.name in KINDS and KINDS[p.name] != "sizes":
        return KINDS[p.name]
    if re.fullmatch(r"bool( \| None)?", text):
        return "flag"
    if p.name == "axis":
        return "axes" if "Sequence" in text else "axis"
    if "Sequence[int]" in text or "tuple[int, ...]" in text:
        return "sizes"
    if re.fullmatch(r"int( \| None)?", text):
        return "count"
    if "Literal" in text and "Callable" not in text:
        return "choice"
    return INTERVALS.get(p.name, "unknown")


ROWS = {
    f"{case} {p.name}": (case, p, kind)
    for case, (function, _, by_place) in CALLS.items()
    for p in list(inspect.signature(function).parameters.values())[by_place:]
    if (kind := kind_of(case, p)) is not None and ("by scale" not in case or p.name == "scale")
}

# The name in the error, where a function is made of others, which check their own arguments.
WHERE = {
    "upsample": ("resize",),
    "separable_conv": ("depthwise_conv", "depthwise", "conv"),
    "encoder_block": ("attention", "dropout", "dense"),
    "decoder_block": ("attention", "dropout", "dense"),
    "mixture_of_experts": ("router",),
    "perceptron": ("dense",),
    "ops.sinusoidal": ("rotary_tables",),
    "sinusoidal_positions": ("rotary_tables",),
    "objective_trainer": ("trainer",),
    "call": ("layer", "relu"),
    "adamw": ("adam",),
    "cross_validate": ("sweep",),
    "diagnosis.learning_curve": ("fit",),
    "explain.activations": ("predict",),
    "explain.linear_probe": ("logistic_regression",),
    "explain.linear_probes": ("activations", "linear_probe", "logistic_regression", "predict"),
    "explain.maximal_patches": ("predict", "to_layer"),
    "explain.neighbours": ("activations", "index", "nearest", "predict"),
    **dict.fromkeys(
        ("explain.activation_maximization", "explain.deep_dream", "explain.receptive_field"), ("to_layer",)
    ),
}


def wrong_values(row):
    case, p, kind = ROWS[row]
    if isinstance(kind, tuple):
        wrong = wrong_numbers(*kind, p.name in MAY_BE_NAN)
        traced = 0.5 if row in STATIC else None
    else:
        wrong, traced = dict(WRONG[kind]), 2 if kind in TRACED else None
    if row in SEQUENCES:
        wrong.pop("a list")
    if case in EAGER:
        traced = None
    if row in OPTIONAL or p.default is None or "None" in inspect.formatannotation(p.annotation):
        wrong.pop("None", None)
    return wrong, traced


@pytest.mark.parametrize("row", ROWS)
def test_a_wrong_argument(row):
    case, p, kind = ROWS[row]
    assert kind != "unknown", "give its kind or its interval"
    function, run, _ = CALLS[case]
    named = {function.__name__, case.rpartition(".")[2], *WHERE.get(case, ())} | (
        {"layer"} if kind == "name" else set()
    )

    def checked(what, call, kind):
        with pytest.raises(kind) as caught:
            call()
        error = caught.value
        assert isinstance(error, InvalidType if kind is TypeError else InvalidValue), (what, repr(error))
        where, _, message = str(error).partition(": ")
        assert where.partition(" at ")[0].rpartition("/")[2] in named, (what, str(error))
        frame = re.fullmatch(r"expected (.+), got (.+?)\.( .*)?", message, re.DOTALL)
        assert frame, (what, str(error))
        assert re.search(rf"\b{p.name}\b", frame[1]), (what, str(error))
        assert len(str(error)) < 450

    wrong, traced = wrong_values(row)
    for what, (value, error) in wrong.items():
        checked(what, partial(run, **{p.name: value}), error)
    if traced is not None:
        checked("traced", lambda: jax.eval_shape(lambda v: run(**{p.name: v}), traced), TypeError)


TRACEABLE = [row for row, (_, _, kind) in ROWS.items() if isinstance(kind, tuple) and row not in STATIC]


@pytest.mark.parametrize("row", TRACEABLE)
def test_the_value_of_an_array_is_not_looked_at(row):
    case, p, _ = ROWS[row]
    run = CALLS[case][1]
    jax.eval_shape(lambda value: (run(**{p.name: value}), 0)[1], jnp.asarray(-1.0))


# The table is whole.

ROOMS = (
    "",
    ".ops",
    ".losses",
    ".metrics",
    ".distributions",
    ".regularizers",
    ".constraints",
    ".init",
    ".data",
    ".augment",
    ".activations",
    ".train",
    ".sharding",
    ".runs",
    ".runs.points",
    ".linear",
    ".retrieval",
    ".diagnosis",
    ".explain",
    ".explain.plot",
    ".testing",
    ".io",  # but not .interop, whose functions need other packages: tests/interop
)
PUBLIC = {
    getattr(module, name)
    for room in (*ROOMS, ".optimizers", ".layers")
    for module in [importlib.import_module(f"jaxnn{room}")]
    for name in module.__all__
    if inspect.isfunction(getattr(module, name))
}


def test_every_function_with_numbers_flags_or_names_has_a_row():
    missing = {
        f"{function.__module__}.{function.__name__}: {p.name}"
        for function in PUBLIC - {function for function, *_ in CALLS.values()}
        for p in inspect.signature(function).parameters.values()
        if kind_of(function.__name__, p) is not None
    }
    assert missing == set()


def test_no_row_is_for_nothing():
    arguments = {p.name for function, *_ in CALLS.values() for p in inspect.signature(function).parameters.values()}
    names = {*INTERVALS, *KINDS, *STATIC}
    assert {n for n in names if n.rpartition(" ")[2] not in arguments} == set()
    assert {n for n in names if " " in n and n not in ROWS} == set()
