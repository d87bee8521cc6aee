"""A right call of each public function that takes numbers, flags or names: the table of errors changes one argument."""

import os

import jax
import jax.numpy as jnp
import numpy as np

import jaxnn as nn
from jaxnn import (
    activations,
    augment,
    constraints,
    data,
    diagnosis,
    explain,
    init,
    linear,
    losses,
    metrics,
    ops,
    optimizers,
    regularizers,
    retrieval,
    testing,
)
from jaxnn.runs import points

KEY = jax.random.key(0)
ROW, STEPS, IMAGE = jnp.ones((2, 4)), jnp.ones((2, 3, 4)), jnp.ones((2, 6, 6, 4))
W = {"w": jnp.ones((4, 3))}
LINEAR = W | {"b": jnp.ones(3)}
CONVOLUTION = nn.serial(nn.conv(2, 3), nn.flatten(), nn.dense(2))
LABELS, SAME = jnp.zeros(2, jnp.int32), jnp.zeros(2, bool)
BOX, BOXES, CLASSES = jnp.ones((1, 2, 4)), jnp.ones((2, 4)), jnp.zeros((1, 2), jnp.int32)
GATES = jnp.ones((4, 12)), jnp.ones((3, 12))
TRAINER = nn.trainer(nn.dense(1), losses.squared_error, nn.sgd(0.1))
NEXT = nn.lift(lambda x: jax.nn.one_hot(x, 5), name="next")
DATA = np.ones((8, 4), np.float32), np.ones((8, 1), np.float32)
STATE = TRAINER.init(KEY, DATA)

LABELLED = DATA[0], np.arange(8) % 2
MODEL = nn.serial(nn.dense(3)), {"dense": W | {"b": jnp.ones(3)}}, {}


def _layer(name, x, **base):
    """A call that makes the layer, and traces its init and its apply."""

    def run(**given):
        layer = getattr(nn, name)(**(base | given))

        def both():
            return layer.apply(*layer.init(KEY, x), x, key=KEY, train=True)

        return jax.eval_shape(both)

    return getattr(nn, name), run, 0


def _call(function, *args, **base):
    """A call of the function; those arguments that are given here by their place stay as they are."""
    return function, lambda **given: function(*args, **(base | given)), len(args)


def _ops(name, *args, **base):
    function = getattr(ops, name)
    return function, lambda **given: jax.eval_shape(lambda: function(*args, **(base | given))), len(args)


def _optimizer(name, **base):
    return _call(getattr(optimizers, name), **base)


LAYERS = {
    "adaptive_avg_pool": (IMAGE, {"size": 2}),
    "adaptive_max_pool": (IMAGE, {"size": 2}),
    "alpha_dropout": (ROW, {"rate": 0.5}),
    "attention": (STEPS, {"heads": 2, "features": 4, "causal": True, "cache": 3}),
    "avg_pool": (IMAGE, {"kernel_size": 2}),
    "batch_norm": (ROW, {}),
    "class_token": (STEPS, {}),
    "conv": (IMAGE, {"features": 4, "kernel_size": 3}),
    "conv_lstm": (IMAGE[:, :, :, :, None], {"features": 2, "kernel_size": 3}),
    "conv_transpose": (IMAGE, {"features": 4, "kernel_size": 3, "padding": "valid"}),
    "decoder_block": ({"x": STEPS, "context": STEPS}, {"heads": 2}),
    "dense": (ROW, {"features": 3}),
    "depth_to_space": (IMAGE, {"factor": 2}),
    "depthwise_conv": (IMAGE, {"kernel_size": 3}),
    "dropout": (ROW, {"rate": 0.5}),
    "embed": (LABELS, {"size": 5, "features": 3}),
    "encoder_block": (STEPS, {"heads": 2}),
    "flatten": (IMAGE, {}),
    "gaussian_noise": (ROW, {"stddev": 0.5}),
    "global_avg_pool": (IMAGE, {}),
    "global_max_pool": (IMAGE, {}),
    "group_norm": (IMAGE, {"groups": 2}),
    "gru": (STEPS, {"features": 3}),
    "identity": (ROW, {}),
    "instance_norm": (IMAGE, {}),
    "layer_norm": (ROW, {}),
    "learned_positions": (STEPS, {"length": 5}),
    "local_response_norm": (IMAGE, {}),
    "lp_pool": (IMAGE, {"kernel_size": 2}),
    "lstm": (STEPS, {"features": 3}),
    "max_pool": (IMAGE, {"kernel_size": 2}),
    "mixture_of_experts": (STEPS, {"experts": 3, "hidden": 2, "capacity_factor": 1.0}),
    "maxout": (ROW, {"features": 3}),
    "pad": (IMAGE, {"padding": 1}),
    "patches": (IMAGE, {"features": 3, "size": 2}),
    "perceptron": (ROW, {}),
    "prelu": (ROW, {}),
    "rms_norm": (ROW, {}),
    "rnn": (STEPS, {"features": 3}),
    "separable_conv": (IMAGE, {"features": 3, "kernel_size": 3}),
    "sinusoidal_positions": (STEPS, {}),
    "space_to_depth": (IMAGE, {"factor": 2}),
    "spatial_dropout": (IMAGE, {"rate": 0.5}),
    "stochastic_depth": (ROW, {"rate": 0.5}),
    "upsample": (IMAGE, {"scale": 2.0}),
}
AUGMENTATIONS = {
    **{name: {"size": 2} for name in ("center_crop", "crop", "cutout", "resize", "resized_crop")},
    **{name: {"augmentation": augment.flip()} for name in ("batched", "sometimes")},
    "blur": {"kernel_size": 3},
    "whitening": {"data": ROW},
}
WITH_CHILD = {"lora": {}, "repeat": {"n": 2}, "residual": {}, "spectral_norm": {}, "weight_norm": {}}
RATES = (
    *("adafactor", "adagrad", "adam", "adamax", "adamw", "amsgrad", "lamb", "lars", "lbfgs", "lion", "muon", "nadam"),
    *("radam", "rmsprop", "rprop", "sgd"),
)
DRAWS = ("normal", "truncated_normal", "uniform", "orthogonal", "variance_scaling")

# name -> the function, a call of it by name, and how many arguments that call gives by their place
CALLS = {
    **{name: _layer(name, x, **base) for name, (x, base) in LAYERS.items()},
    **{
        name: _layer(name, ROW, **base, **{"block" if name in ("repeat", "residual") else "child": nn.dense(4)})
        for name, base in WITH_CHILD.items()
    },
    "serial": _call(nn.serial, nn.relu),
    "unembed": (nn.unembed, lambda **given: nn.unembed(**given).apply({"w": jnp.ones((5, 4))}, {}, ROW), 0),
    "generate": _call(nn.generate, NEXT, {}, {}, LABELS[:, None], KEY, steps=2),
    "parallel": _call(nn.parallel, nn.relu, nn.tanh, join="add"),
    "layer": _call(nn.layer, init=None, apply=lambda params, state, x, *, key, train: (x, state), kind="mine"),
    "lift": _call(nn.lift, nn.relu),
    "call": _call(nn.call, nn.lift(nn.relu), name="relu", params={}, state={}, x=ROW),
    # ops
    "ops.adaptive_avg_pool": _ops("adaptive_avg_pool", IMAGE, size=2),
    "ops.adaptive_max_pool": _ops("adaptive_max_pool", IMAGE, size=2),
    "ops.affine_grid": _ops("affine_grid", jnp.ones((2, 2, 3)), size=4),
    "ops.anchors": _ops("anchors", size=(2, 2), stride=8, scales=[4.0]),
    "ops.attention": _ops("attention", *[jnp.ones((2, 3, 2, 4))] * 3, key=KEY),
    "ops.avg_pool": _ops("avg_pool", IMAGE, kernel_size=2),
    "ops.box_decode": _ops("box_decode", BOXES, BOXES),
    "ops.conv": _ops("conv", IMAGE, jnp.ones((3, 3, 4, 4))),
    "ops.conv_lstm": _ops("conv_lstm", STEPS[..., None], None, jnp.ones((3, 1, 8)), jnp.ones((3, 2, 8))),
    "ops.conv_transpose": _ops("conv_transpose", IMAGE, jnp.ones((3, 3, 4, 4)), padding="valid"),
    "ops.depth_to_space": _ops("depth_to_space", IMAGE, factor=2),
    "ops.depthwise_conv": _ops("depthwise_conv", IMAGE, jnp.ones((3, 3, 4, 1))),
    "ops.fold": _ops("fold", jnp.ones((2, 3, 3, 4, 3)), size=6, kernel_size=2, stride=2),
    "ops.grid_sample": _ops("grid_sample", IMAGE, jnp.ones((2, 3, 3, 2))),
    "ops.group_norm": _ops("group_norm", IMAGE, groups=2),
    "ops.gru": _ops("gru", STEPS, None, jnp.ones((4, 9)), jnp.ones((3, 9))),
    "ops.instance_norm": _ops("instance_norm", IMAGE),
    "ops.layer_norm": _ops("layer_norm", ROW),
    "ops.local_response_norm": _ops("local_response_norm", IMAGE),
    "ops.lp_normalize": _ops("lp_normalize", ROW),
    "ops.lp_pool": _ops("lp_pool", IMAGE, kernel_size=2),
    "ops.lstm": _ops("lstm", STEPS, None, *GATES),
    "ops.max_pool": _ops("max_pool", IMAGE, kernel_size=2),
    "ops.max_pool_with_indices": _ops("max_pool_with_indices", IMAGE, kernel_size=2),
    "ops.max_unpool": _ops("max_unpool", IMAGE, jnp.zeros(IMAGE.shape, jnp.int32), size=12),
    "ops.moments": _ops("moments", ROW, axis=0),
    "ops.non_maximum_suppression": _ops("non_maximum_suppression", BOXES, jnp.ones(2), size=2),
    "ops.normalize": _ops("normalize", ROW, jnp.ones(4), jnp.ones(4), eps=1e-5, scale=None, bias=None),
    "ops.pad": _ops("pad", IMAGE, padding=1),
    "ops.perceptron_update": _ops("perceptron_update", jnp.ones((4, 3)), jnp.ones(3), ROW, jnp.ones((2, 3))),
    "ops.resize": _ops("resize", IMAGE, size=4),
    "ops.resize by scale": _ops("resize", IMAGE, scale=2.0),
    "ops.rms_norm": _ops("rms_norm", ROW),
    "ops.rnn": _ops("rnn", STEPS, None, jnp.ones((4, 3)), jnp.ones((3, 3))),
    "ops.roi_align": _ops("roi_align", IMAGE, BOXES, LABELS, size=2),
    "ops.rotary": _ops("rotary", jnp.ones((2, 3, 2, 4)), jnp.ones((3, 2)), jnp.ones((3, 2))),
    "ops.rotary_tables": _ops("rotary_tables", jnp.arange(3), size=4),
    "ops.sinusoidal": _ops("sinusoidal", jnp.arange(3), features=4),
    "ops.space_to_depth": _ops("space_to_depth", IMAGE, factor=2),
    "ops.unfold": _ops("unfold", IMAGE, kernel_size=2),
    # losses
    "absolute_percentage_error": _call(losses.absolute_percentage_error, ROW, ROW),
    "binary_cross_entropy": _call(losses.binary_cross_entropy, ROW, ROW),
    "binary_cross_entropy_on_probabilities": _call(losses.binary_cross_entropy_on_probabilities, ROW, ROW),
    "contrastive": _call(losses.contrastive, ROW, ROW, SAME),
    "cosine_embedding": _call(losses.cosine_embedding, ROW, ROW, SAME),
    "cross_entropy_on_log_probabilities": _call(losses.cross_entropy_on_log_probabilities, ROW, LABELS),
    "cross_entropy_on_probabilities": _call(losses.cross_entropy_on_probabilities, ROW, LABELS),
    "ctc": _call(losses.ctc, STEPS, LABELS[:, None], LABELS, LABELS),
    "dice": _call(losses.dice, ROW, ROW),
    "circle": _call(losses.circle, ROW, LABELS),
    "focal_on_probabilities": _call(losses.focal_on_probabilities, ROW, ROW),
    "focal": _call(losses.focal, ROW, ROW),
    "gaussian_nll": _call(losses.gaussian_nll, ROW, ROW, ROW),
    "huber": _call(losses.huber, ROW, ROW),
    "margin_ranking": _call(losses.margin_ranking, ROW, ROW, ROW),
    "multi_class_hinge": _call(losses.multi_class_hinge, ROW, LABELS),
    "nt_xent": _call(losses.nt_xent, ROW, ROW),
    "poisson_nll": _call(losses.poisson_nll, ROW, ROW),
    "quantile": _call(losses.quantile, ROW, ROW),
    "softmax_cross_entropy": _call(losses.softmax_cross_entropy, ROW, LABELS),
    "softmax_focal": _call(losses.softmax_focal, ROW, LABELS),
    "triplet": _call(losses.triplet, ROW, ROW, ROW),
    "triplet_semi_hard": _call(losses.triplet_semi_hard, ROW, LABELS),
    "tversky": _call(losses.tversky, ROW, ROW),
    # linear
    "linear.classify": _call(linear.classify, linear.Linear(jnp.ones(4), jnp.zeros(())), ROW),
    "linear.gather": _call(linear.gather, linear.stream(4)),
    "linear.linear_regression": _call(linear.linear_regression, ROW, jnp.ones(2)),
    "linear.logistic_regression": _call(linear.logistic_regression, ROW, LABELS),
    "linear.solve": _call(linear.solve, linear.stream(4)),
    "linear.stream": _call(linear.stream, features=4),
    # diagnosis
    "diagnose": _call(nn.diagnose, TRAINER, KEY, DATA),
    "diagnosis.baseline_scores": _call(diagnosis.baseline_scores, *DATA, DATA, classes=2),
    "diagnosis.failures": _call(diagnosis.failures, ROW, LABELS, worst=2),
    "diagnosis.fitted": _call(diagnosis.fitted, None),
    "diagnosis.learning_curve": _call(diagnosis.learning_curve, TRAINER, KEY, DATA, DATA, sizes=[4], epochs=1),
    "diagnosis.noise_scale": _call(diagnosis.noise_scale, TRAINER, STATE, DATA, batch_size=2),
    "diagnosis.outputs": _call(diagnosis.outputs, nn.relu, {}, {}, ROW),
    "diagnosis.overfit_sample": _call(diagnosis.overfit_sample, TRAINER, STATE, DATA),
    "diagnosis.probe": _call(diagnosis.probe, TRAINER, STATE, DATA, jnp.ones(2), KEY, steps=2, batch_size=2),
    "diagnosis.range_test": _call(diagnosis.range_test, TRAINER, STATE, DATA, KEY, steps=2),
    "diagnosis.sharpness": _call(diagnosis.sharpness, TRAINER, STATE, DATA, KEY),
    "diagnosis.watch": _call(diagnosis.watch, TRAINER, DATA),
    # retrieval
    "retrieval.index": _call(retrieval.index, ROW),
    "retrieval.nearest": _call(retrieval.nearest, retrieval.InnerProduct(ROW), ROW, k=1),
    # explain
    **{
        f"explain.{name}": _call(getattr(explain, name), nn.dense(3), LINEAR, {}, ROW, **given)
        for name, given in {
            "integrated_gradients": {},
            "occlusion": {"window": 2},
            "shapley_values": {"key": KEY},
            "smooth_grad": {"key": KEY},
        }.items()
    },
    **{
        f"explain.{name}": _call(
            getattr(explain, name), CONVOLUTION, CONVOLUTION.init(KEY, IMAGE)[0], {}, IMAGE, path="conv"
        )
        for name in ("grad_cam", "grad_cam_plus_plus", "score_cam")
    },
    "explain.pointing_game": _call(explain.pointing_game, ROW, ROW > 0),
    "explain.randomized": _call(explain.randomized, nn.dense(3), LINEAR, KEY, ROW, where="w"),
    "explain.from_layer": _call(explain.from_layer, nn.serial(nn.dense(3)), {"dense": LINEAR}, {}, ROW, path="dense"),
    "explain.activation_maximization": _call(explain.activation_maximization, *MODEL, ROW, key=KEY, path="dense"),
    "explain.activations": _call(explain.activations, *MODEL, ROW, path="dense"),
    "explain.cka": _call(explain.cka, jnp.ones((4, 2)), jnp.ones((4, 2))),
    "explain.cka_matrix": _call(explain.cka_matrix, [jnp.ones((4, 2))], [jnp.ones((4, 2))]),
    "explain.deep_dream": _call(explain.deep_dream, *MODEL, IMAGE, path="dense", key=KEY),
    "explain.landscape": _call(explain.landscape, lambda params: jnp.sum(params["w"]), W, [W]),
    "explain.linear_probe": _call(explain.linear_probe, LABELLED, LABELLED, classes=2),
    "explain.linear_probes": _call(explain.linear_probes, *MODEL, LABELLED, LABELLED, ["dense"], classes=2),
    "explain.maximal_patches": _call(explain.maximal_patches, *MODEL, ROW, path="dense", k=1),
    "explain.neighbours": _call(explain.neighbours, *MODEL, ROW, ROW, path="dense", k=1),
    "explain.pca": _call(explain.pca, ROW),
    "explain.receptive_field": _call(explain.receptive_field, *MODEL, ROW, path="dense"),
    "explain.to_layer": _call(explain.to_layer, nn.dense(3)),
    "explain.trajectory_directions": _call(explain.trajectory_directions, {"w": jnp.ones((3, 2))}),
    "explain.tsne": _call(explain.tsne, ROW, perplexity=1.0),
    "explain.plot.grid": _call(explain.plot.grid, IMAGE[..., :1]),
    "explain.plot.landscape": _call(explain.plot.landscape, jnp.ones(2), [jnp.ones(2)]),
    # testing
    "testing.check_layer": _call(testing.check_layer, nn.dense(3), ROW),
    "testing.check_loss": _call(testing.check_loss, losses.squared_error, ROW, jnp.zeros((2, 4))),
    "testing.check_optimizer": _call(testing.check_optimizer, nn.sgd),
    # metrics
    "accuracy": _call(metrics.accuracy, ROW, LABELS),
    "binary_accuracy": _call(metrics.binary_accuracy, ROW, ROW),
    "confusion_matrix": _call(metrics.confusion_matrix, LABELS, LABELS, num_classes=2),
    "calibration_temperature": _call(metrics.calibration_temperature, ROW, LABELS),
    "expected_calibration_error": _call(metrics.expected_calibration_error, ROW, LABELS),
    "f1": _call(metrics.f1, LABELS, LABELS),
    "frechet_distance": _call(metrics.frechet_distance, jnp.ones((3, 2)), jnp.ones((4, 2))),
    "iou": _call(metrics.iou, LABELS, LABELS),
    "mean_average_precision": _call(
        metrics.mean_average_precision, BOX, BOX[..., 0], CLASSES, BOX, CLASSES, num_classes=1
    ),
    "precision": _call(metrics.precision, LABELS, LABELS),
    "recall": _call(metrics.recall, LABELS, LABELS),
    "retrieval_average_precision": _call(metrics.retrieval_average_precision, jnp.ones((2, 2), bool), LABELS),
    "recall_at_k": _call(metrics.recall_at_k, jnp.ones((2, 2)), LABELS, k=1),
    "top_k_accuracy": _call(metrics.top_k_accuracy, ROW, LABELS, k=2),
    # activations
    **{
        name: _call(getattr(activations, name), ROW)
        for name in (
            *("celu", "elu", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_tanh", "leaky_relu"),
            *("log_softmax", "silu", "soft_shrink", "softmax", "standardize", "thresholded_relu", "unit_step"),
        )
    },
    # augment
    **{
        f"augment.{name}": _call(getattr(augment, name), **AUGMENTATIONS.get(name, {}))
        for name in (
            *("affine", "batched", "blur", "brightness", "center_crop", "channel_shift", "contrast", "crop", "cutmix"),
            *("cutout", "elastic", "flip", "gamma", "hue", "mixup", "noise", "pca_color", "perspective", "posterize"),
            *("rand_augment", "resize", "resized_crop", "rotate", "saturation", "sharpness", "shear", "solarize"),
            *("sometimes", "translate", "trivial_augment", "whitening", "zoom"),
        )
    },
    # regularizers and constraints
    "l1": _call(regularizers.l1, strength=0.1),
    "l2": _call(regularizers.l2, strength=0.1),
    "elastic_net": _call(regularizers.elastic_net, l1=0.1, l2=0.1),
    "max_norm": (constraints.max_norm, lambda **g: constraints.max_norm(**({"limit": 1.0} | g)).update(W, (), W), 0),
    "unit_norm": (constraints.unit_norm, lambda **given: constraints.unit_norm(**given).update(W, (), W), 0),
    # init
    **{f"init.{name}": _call(getattr(init, name), KEY, (4, 3)) for name in DRAWS},
    "init.preset": _call(init.preset, name="jaxnn", kind="dense", fan_in=4),
    # optimizers
    "adadelta": _optimizer("adadelta"),
    **{name: _optimizer(name, learning_rate=0.1) for name in RATES},
    "quantized": _optimizer("quantized", optimizer=optimizers.sgd(0.1)),
    # data
    "data.batches": _call(data.batches, DATA, batch_size=2),
    "data.load": _call(data.load, name="digits"),
    "data.one_hot": _call(data.one_hot, LABELS, classes=2),
    "data.split": _call(data.split, 0, DATA, fraction=0.5),
    "points.integers": _call(points.integers, low=1, high=3),
    "points.log_uniform": _call(points.log_uniform, low=0.1, high=1.0),
    "points.random": (points.random, lambda n=2: points.random(KEY, n, a=points.uniform(0.0, 1.0)), 0),
    "points.uniform": _call(points.uniform, low=0.0, high=1.0),
    # runs
    "cache_programs": _call(nn.cache_programs, None),
    "compiler_options": _call(nn.compiler_options),
    "reuse_memory": _call(nn.reuse_memory),
    "fit": _call(nn.fit, TRAINER, KEY, DATA, epochs=1),
    "drive": _call(nn.drive, TRAINER, KEY, DATA, epochs=1),
    "halving": _call(nn.halving, lambda point: TRAINER, {"a": jnp.ones(2)}, KEY, DATA, epochs=2),
    "sweep": _call(nn.sweep, lambda point: point, jnp.ones(2)),
    "cross_validate": _call(
        nn.cross_validate, lambda key, train, x: x, KEY, (DATA[0], np.arange(8) % 2), metrics.accuracy, folds=2
    ),
    "ensemble": _call(nn.ensemble, nn.dense(1), members=2),
    "summary": _call(nn.summary, nn.dense(3), ROW),
    "export": _call(nn.export, nn.dense(3), W | {"b": jnp.ones(3)}, {}, ROW),
    "predict": _call(nn.predict, nn.dense(3), W | {"b": jnp.ones(3)}, {}, ROW),
    "mesh": _call(nn.mesh, axes="data=1"),
    "shard": _call(nn.shard, TRAINER, nn.mesh("data=1")),
    "cores_as_devices": _call(nn.cores_as_devices, 2),
    "sharding.data_parallel": _call(
        nn.sharding.data_parallel,
        nn.trainer(nn.dense(1), losses.squared_error, nn.sgd(0.1), axis_name="data"),
        nn.mesh("data=1"),
    ),
    "sharding.global_batch": _call(nn.sharding.global_batch, jnp.ones((4, 3)), nn.mesh("data=1"), 4),
    "sharding.expert_parallel": _call(nn.sharding.expert_parallel),
    "sharding.fsdp": _call(nn.sharding.fsdp),
    "sharding.tensor_parallel": _call(nn.sharding.tensor_parallel),
    "recalibrate": _call(nn.recalibrate, nn.dense(3), W | {"b": jnp.ones(3)}, {}, ROW),
    "trainer": _call(nn.trainer, nn.dense(3), losses.squared_error, nn.sgd(0.1)),
    "objective_trainer": _call(nn.objective_trainer, lambda *a: ({}, {}), lambda *a, **k: 0.0, nn.sgd(0.1)),
    "save": _call(nn.save, tree=W, path=os.devnull),
    "load": _call(nn.load, path=os.devnull),
}
