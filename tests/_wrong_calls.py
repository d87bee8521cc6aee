"""Calls as newcomers make them, by name; `test_errors.py` has the whole text of each error."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnn as nn

KEY = jax.random.key(0)
X, Y = jnp.ones((8, 4)), jnp.zeros(8, jnp.int32)
PAIR = (X, Y)
MODEL = nn.dense(3)
LOSS = nn.losses.softmax_cross_entropy
TRAINER = nn.trainer(MODEL, LOSS, nn.sgd(0.1))
PARAMS = {"w": jnp.ones((4, 3)), "b": jnp.zeros(3)}
SHAPES = jax.eval_shape(MODEL.init, KEY, X)
BATCHES = [PAIR, PAIR]
DATASET = nn.data.Dataset(
    train=(np.ones((8, 4), np.float32), np.zeros(8, np.int32)),
    test=None,
    classes=("a", "b"),
    features=(),
    source="made up",
)
LONG = list(np.ones((60_000, 2)))
TEXT = np.array(["a", "b"] * 4)
OBJECTS = np.array([None] * 8)


class Tensor:
    """What torch.Tensor looks like from outside."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, f"torch.{array.dtype}"

    def __array__(self, dtype=None, copy=None):
        return self.array if dtype is None else self.array.astype(dtype)

    def __repr__(self):
        return f"tensor({self.array})"


Tensor.__module__ = "torch"


class DataFrame(Tensor):
    """What pandas.DataFrame looks like from outside: no dtype of its own."""

    def __init__(self, array):
        super().__init__(array)
        del self.dtype


DataFrame.__module__ = "pandas.core.frame"
TENSOR, FRAME = Tensor(np.ones((8, 4), np.float32)), DataFrame(np.ones((8, 4), np.float32))


def fit(*args, **how):
    return nn.fit(*args, **({"epochs": 1} | how))


def drive(*args, **how):
    return nn.drive(*args, **({"epochs": 1, "progress": False} | how))


def trainer(**how):
    return nn.trainer(MODEL, LOSS, nn.sgd(0.1), **how)


def objective(result):
    """A trainer whose objective returns `result(loss, state)`."""

    def minimised(params, state, batch, *, key, train):
        return result(jnp.sum((params["c"] - batch[0]) ** 2), state)

    return nn.objective_trainer(lambda key, batch: ({"c": jnp.zeros(())}, {}), minimised, nn.sgd(0.1))


def step(made):
    """A step that is traced and not compiled."""
    return jax.eval_shape(lambda: made.step(made.init(KEY, PAIR), PAIR))


def with_loss(loss):
    return step(nn.trainer(MODEL, loss, nn.sgd(0.1)))


def named(*names):
    return nn.serial(*(nn.dense(3, name=name) for name in names))


def cached(x):
    model = nn.attention(2, cache=8, causal=True)
    return jax.eval_shape(lambda: model.apply(*model.init(KEY, jnp.ones((1, 4, 8))), x))


def traced(f):
    return jax.eval_shape(f, 0.1)


CALLS = {
    # keys
    "fit, an int for the key": lambda: fit(TRAINER, 0, PAIR),
    "drive, an int for the key": lambda: drive(TRAINER, 0, PAIR),
    "drive, a NumPy int for the key": lambda: drive(TRAINER, np.int64(7), PAIR),
    "fit, a NumPy generator": lambda: fit(TRAINER, np.random.default_rng(0), PAIR),
    "fit, None for the key": lambda: fit(TRAINER, None, PAIR),
    "fit, key and data exchanged": lambda: fit(TRAINER, PAIR, KEY),
    "drive, key and data exchanged": lambda: drive(TRAINER, PAIR, KEY),
    "fit, key and trainer exchanged": lambda: fit(KEY, TRAINER, PAIR),
    "fit, several keys": lambda: fit(TRAINER, jax.random.split(KEY, 3), PAIR),
    "trainer.init, an int": lambda: TRAINER.init(0, PAIR),
    "trainer.init, exchanged": lambda: TRAINER.init(PAIR, KEY),
    "cross_validate, an int": lambda: nn.cross_validate(lambda k, t, x: x, 0, PAIR, nn.metrics.accuracy, folds=2),
    "points.random, an int": lambda: nn.points.random(0, 3, a=nn.points.uniform(0.0, 1.0)),
    "init, an int": lambda: MODEL.init(0, X),
    "init of a serial, an int": lambda: nn.serial(MODEL, nn.relu).init(0, X),
    "init, exchanged": lambda: MODEL.init(X, KEY),
    "init of a serial, exchanged": lambda: nn.serial(MODEL, nn.relu).init(X, KEY),
    "init, no key": lambda: MODEL.init(None, X),
    "init, several keys": lambda: MODEL.init(jax.random.split(KEY, 2), X),
    "apply, an int for the key": lambda: nn.dropout(0.5).apply({}, {}, X, key=0, train=True),
    # shapes and inputs of a layer
    "init, a shape": lambda: MODEL.init(KEY, (1, 4)),
    "init of a serial, a shape": lambda: nn.serial(MODEL, nn.relu).init(KEY, (1, 4)),
    "init, a list": lambda: MODEL.init(KEY, [[1.0, 2.0]]),
    "init, a str": lambda: MODEL.init(KEY, "x"),
    "init, strings": lambda: MODEL.init(KEY, TEXT),
    "init, a tensor": lambda: MODEL.init(KEY, TENSOR),
    "init, a frame": lambda: MODEL.init(KEY, FRAME),
    "init, no x": lambda: MODEL.init(KEY),
    "summary, a shape": lambda: nn.summary(MODEL, (8, 4)),
    "apply, a list": lambda: MODEL.apply(PARAMS, {}, [[1.0, 2.0, 3.0, 4.0]]),
    "apply, a tensor": lambda: MODEL.apply(PARAMS, {}, TENSOR),
    "apply, a frame": lambda: MODEL.apply(PARAMS, {}, FRAME),
    "apply, objects": lambda: MODEL.apply(PARAMS, {}, OBJECTS),
    "apply, a key for x": lambda: MODEL.apply(PARAMS, {}, KEY),
    "apply, images of bytes": lambda: MODEL.apply(PARAMS, {}, np.ones((8, 4), np.uint8)),
    "apply, x first": lambda: MODEL.apply(X, PARAMS, {}),
    "apply, params and state as one": lambda: MODEL.apply((PARAMS, {}), {}, X),
    "apply, x alone": lambda: MODEL.apply(X),
    "apply, no state": lambda: MODEL.apply(PARAMS, X),
    "apply, key by position": lambda: MODEL.apply(PARAMS, {}, X, KEY),
    "apply, train=1": lambda: MODEL.apply(PARAMS, {}, X, train=1),
    "a layer called": lambda: MODEL(X),
    "a model called like flax's": lambda: nn.serial(MODEL, nn.relu)(PARAMS, X),
    "vmap of a layer": lambda: jax.vmap(MODEL)(X),
    # how layers are made
    "a list of layers": lambda: nn.serial([MODEL, nn.relu]),
    "a factory": lambda: nn.serial(nn.dense, nn.relu),
    "a str for a layer": lambda: nn.serial(MODEL, "relu"),
    "None for a layer": lambda: nn.serial(MODEL, None),
    "layer of a layer": lambda: nn.layer(MODEL, lambda p, s, x, key, train: (x, s), "mine"),
    "join by a layer": lambda: nn.parallel(MODEL, MODEL, join=MODEL),
    "dense, a str": lambda: nn.dense("3"),
    "dense, a float": lambda: nn.dense(3.0),
    "dense, a bool": lambda: nn.dense(True),
    "dense, a traced size": lambda: traced(nn.dense),
    "conv SAME": lambda: nn.conv(3, 3, padding="SAME"),
    "conv VALID": lambda: nn.conv(3, 3, padding="VALID"),
    "conv, negative padding": lambda: nn.conv(3, 3, padding=-1),
    "conv, a kernel_size of floats": lambda: nn.conv(3, (3.0, 3.0)),
    "conv, stride 0": lambda: nn.conv(3, 3, stride=0),
    "conv_transpose SAME": lambda: nn.conv_transpose(3, 3, padding="SAME"),
    "depthwise SAME": lambda: nn.depthwise_conv(3, padding="SAME"),
    "separable SAME": lambda: nn.separable_conv(3, 3, padding="SAME"),
    "max_pool SAME": lambda: nn.max_pool(2, padding="SAME"),
    "avg_pool, a str": lambda: nn.avg_pool("2"),
    "adaptive, 0": lambda: nn.adaptive_avg_pool(0),
    "patches, a float": lambda: nn.patches(8, 4.0),
    "attention, one number for a window": lambda: nn.attention(2, window=4),
    "attention, a long piece for its cache": lambda: cached(jnp.ones((1, 12, 8))),
    "attention, other examples than its cache": lambda: cached(jnp.ones((2, 4, 8))),
    "dropout, 1.5": lambda: nn.dropout(1.5),
    "repeat, a float": lambda: nn.repeat(MODEL, 2.0),
    # data of a run
    "fit, a Dataset": lambda: fit(TRAINER, KEY, DATASET),
    "drive, a Dataset": lambda: drive(TRAINER, KEY, DATASET),
    "predict, a Dataset": lambda: nn.predict(MODEL, PARAMS, {}, DATASET),
    "batches, a Dataset": lambda: nn.data.batches(DATASET, 2),
    "split, a Dataset": lambda: nn.data.split(0, DATASET, 0.5),
    "fit, a name": lambda: fit(TRAINER, KEY, "digits"),
    "fit, x alone": lambda: fit(TRAINER, KEY, X),
    "fit, x and y apart": lambda: fit(TRAINER, KEY, X, Y),
    "fit, a dict": lambda: fit(TRAINER, KEY, {"x": X, "y": Y}),
    "fit, None": lambda: fit(TRAINER, KEY, None),
    "fit, lists of 60000 arrays": lambda: fit(TRAINER, KEY, (LONG, list(np.zeros(60_000)))),
    "drive, lists": lambda: drive(TRAINER, KEY, (X.tolist(), Y.tolist())),
    "fit, labels that are strings": lambda: fit(TRAINER, KEY, (X, TEXT)),
    "drive, labels that are strings": lambda: drive(TRAINER, KEY, (X, TEXT)),
    "fit, objects": lambda: fit(TRAINER, KEY, (OBJECTS, Y)),
    "fit, examples of other numbers": lambda: fit(TRAINER, KEY, (X, Y[:5])),
    "fit, a list of batches": lambda: fit(TRAINER, KEY, BATCHES),
    "drive, a list of batches": lambda: drive(TRAINER, KEY, BATCHES),
    "drive, a list of many batches": lambda: drive(TRAINER, KEY, BATCHES * 3),
    "drive, batches of other sizes": lambda: drive(TRAINER, KEY, [PAIR, (X[:5], Y[:5])]),
    "fit, a generator": lambda: fit(TRAINER, KEY, (b for b in BATCHES)),
    "fit, a function": lambda: fit(TRAINER, KEY, lambda epoch: BATCHES),
    "drive, a generator for two epochs": lambda: drive(TRAINER, KEY, (b for b in BATCHES), epochs=2),
    "drive, a function that gives None": lambda: drive(TRAINER, KEY, lambda epoch: None),
    "drive, batches of strings": lambda: drive(TRAINER, KEY, lambda epoch: [(TEXT, Y)]),
    "batches, lists": lambda: nn.data.batches(([1, 2], [3, 4]), 2),
    "batches, a tensor": lambda: nn.data.batches((TENSOR, TENSOR), 2),
    "predict, a list": lambda: nn.predict(MODEL, PARAMS, {}, [[1.0, 2.0, 3.0, 4.0]]),
    # settings of a run
    "fit, a model": lambda: fit(MODEL, KEY, PAIR),
    "fit, a float of epochs": lambda: fit(TRAINER, KEY, PAIR, epochs=3.0),
    "fit, a str of epochs": lambda: fit(TRAINER, KEY, PAIR, epochs="3"),
    "fit, traced epochs": lambda: jax.eval_shape(lambda n: fit(TRAINER, KEY, PAIR, epochs=n), 3),
    "fit, a batch too large": lambda: fit(TRAINER, KEY, PAIR, batch_size=100),
    "fit, an unknown monitor": lambda: fit(TRAINER, KEY, PAIR, monitor="accuracy"),
    "drive, an unknown monitor": lambda: drive(TRAINER, KEY, PAIR, monitor="accuracy"),
    "fit, Keras's monitor": lambda: fit(TRAINER, KEY, PAIR, PAIR, monitor="val_accuracy"),
    "fit, a mode": lambda: fit(TRAINER, KEY, PAIR, mode="maximum"),
    "fit, augment=True": lambda: fit(TRAINER, KEY, PAIR, augment=True),
    "fit, a layer to augment": lambda: fit(TRAINER, KEY, PAIR, augment=MODEL),
    "drive, a str for the run": lambda: drive(TRAINER, KEY, PAIR, run="run.safetensors"),
    "drive, an int for the folder": lambda: drive(TRAINER, KEY, PAIR, checkpoint=3),
    "drive, a rate that is traced": lambda: traced(
        lambda rate: drive(nn.trainer(MODEL, LOSS, nn.sgd(rate)), KEY, PAIR)
    ),
    "drive, data that are traced": lambda: jax.eval_shape(lambda x: drive(TRAINER, KEY, (x, Y)), X),
    "drive, in vmap": lambda: jax.vmap(lambda r: drive(nn.trainer(MODEL, LOSS, nn.sgd(r)), KEY, PAIR))(jnp.ones(2)),
    "drive, in sweep": lambda: nn.sweep(lambda r: drive(nn.trainer(MODEL, LOSS, nn.sgd(r)), KEY, PAIR), jnp.ones(2)),
    # trainers
    "trainer, a function for the model": lambda: nn.trainer(nn.relu, LOSS, nn.sgd(0.1)),
    "trainer, a factory for the model": lambda: nn.trainer(nn.dense, LOSS, nn.sgd(0.1)),
    "trainer, a str for the loss": lambda: nn.trainer(MODEL, "mse", nn.sgd(0.1)),
    "trainer, loss and optimizer exchanged": lambda: nn.trainer(MODEL, nn.sgd(0.1), LOSS),
    "trainer, optax's optimizer for the loss": lambda: nn.trainer(MODEL, optax.sgd(0.1), LOSS),
    "trainer, a layer for the loss": lambda: nn.trainer(MODEL, MODEL, nn.sgd(0.1)),
    "trainer, a factory for the optimizer": lambda: nn.trainer(MODEL, LOSS, nn.adam),
    "trainer, a str for the optimizer": lambda: nn.trainer(MODEL, LOSS, "adam"),
    "trainer, a rate for the optimizer": lambda: nn.trainer(MODEL, LOSS, 1e-3),
    "trainer, precision of Lightning": lambda: trainer(precision="bf16-mixed"),
    "trainer, compute_dtype": lambda: trainer(compute_dtype="bfloat16"),
    "trainer, a number for the loss scale": lambda: trainer(precision="float16", loss_scale=2**15),
    "autocast": lambda: nn.autocast,
    "GradScaler": lambda: nn.GradScaler,
    "metrics, a list": lambda: trainer(metrics=[nn.metrics.accuracy]),
    "metrics, a function": lambda: trainer(metrics=nn.metrics.accuracy),
    "metrics, a lambda": lambda: trainer(metrics=lambda prediction, y: 0.0),
    "metrics, a list of names": lambda: trainer(metrics=["accuracy"]),
    "metrics, a name": lambda: trainer(metrics="accuracy"),
    "metrics, a name in a dict": lambda: trainer(metrics={"acc": "accuracy"}),
    "metrics, one called loss": lambda: trainer(metrics={"loss": LOSS}),
    "a loss that gives None": lambda: with_loss(lambda prediction, y: None),
    "a loss that gives a str": lambda: with_loss(lambda prediction, y: "low"),
    "a metric that gives None": lambda: step(trainer(metrics={"odd": lambda prediction, y: None})),
    "objective, a loss alone": lambda: step(objective(lambda loss, state: loss)),
    "objective, loss and metrics": lambda: step(objective(lambda loss, state: (loss, {"a": loss}))),
    "objective, three": lambda: step(objective(lambda loss, state: (loss, state, {}))),
    "objective, None": lambda: step(objective(lambda loss, state: None)),
    "objective, no metrics": lambda: step(objective(lambda loss, state: (loss, (state, None)))),
    "objective, a loss of each example": lambda: step(objective(lambda loss, state: (loss * X[:, 0], (state, {})))),
    "objective, state and metrics exchanged": lambda: fit(
        objective(lambda loss, state: (loss, ({"a": loss}, state))), KEY, PAIR
    ),
    "frozen, a layer's name": lambda: nn.trainer(named("conv", "head"), LOSS, nn.sgd(0.1), frozen="conv").init(
        KEY, PAIR
    ),
    "frozen, an unknown name": lambda: nn.trainer(named("conv", "head"), LOSS, nn.sgd(0.1), frozen="stem/*").init(
        KEY, PAIR
    ),
    "frozen, None": lambda: trainer(frozen=None),
    "step, a key": lambda: TRAINER.step(KEY, PAIR),
    "step, x alone": lambda: jax.eval_shape(lambda: TRAINER.step(TRAINER.init(KEY, PAIR), X)),
    "step, no batch": lambda: TRAINER.step(KEY),
    "adam, a str": lambda: nn.adam("1e-3"),
    "by_path, a list": lambda: nn.by_path([nn.adam(0.1)]),
    # sweeps
    "sweep, exchanged": lambda: nn.sweep(jnp.ones(2), lambda p: p),
    "sweep, a list": lambda: nn.sweep(lambda p: p, [0.1, 0.2]),
    "sweep, a dict of lists": lambda: nn.sweep(lambda p: p, {"rate": [0.1, 0.2]}),
    "sweep, one point": lambda: nn.sweep(lambda p: p, {"rate": 0.1}),
    "sweep, strings": lambda: nn.sweep(lambda p: p, TEXT),
    "sweep, nothing": lambda: nn.sweep(lambda p: p, {}),
    "sweep, a trainer": lambda: nn.sweep(TRAINER, jnp.ones(2)),
    "sweep, a strategy": lambda: nn.sweep(lambda p: p, jnp.ones(2), strategy="pmap"),
    "sweep, in jit": lambda: jax.eval_shape(lambda p: nn.sweep(lambda q: q, p), jnp.ones(2)),
    "grid, one value": lambda: nn.points.grid(rate=0.1),
    # losses, metrics, activations
    "a loss of lists": lambda: nn.losses.squared_error([1.0], [2.0]),
    "a loss of tensors": lambda: nn.losses.squared_error(TENSOR, TENSOR),
    "an activation of a list": lambda: nn.relu([1.0]),
    "an activation of a tensor": lambda: nn.relu(TENSOR),
    "an activation of a str": lambda: nn.relu("x"),
    "labels one-hot as integers": lambda: LOSS(jnp.ones((8, 3)), jnp.ones((8, 3), jnp.int32)),
    "labels in a column": lambda: LOSS(jnp.ones((8, 3)), Y[:, None]),
    "one_hot, a float": lambda: nn.data.one_hot(Y, 3.0),
    "load, an unknown name": lambda: nn.data.load("cifar10"),
    # names from elsewhere
    "nn.Linear": lambda: nn.Linear,
    "nn.Dropout": lambda: nn.Dropout,
    "nn.squared_error": lambda: nn.squared_error,
    "nn.losses.mse": lambda: nn.losses.mse,
    "nn.init.kaiming_normal_": lambda: nn.init.kaiming_normal_,
    "nn.nonsense": lambda: nn.nonsense,
    # arguments of other libraries
    "adam, lr": lambda: nn.adam(lr=0.1),
    "adam, betas": lambda: nn.adam(0.1, betas=(0.9, 0.99)),
    "adam, epsilon": lambda: nn.adam(0.1, epsilon=1e-3),
    "adam, params": lambda: nn.adam(params=PARAMS),
    "dense, in_features": lambda: nn.dense(in_features=4, features=3),
    "dense, units": lambda: nn.dense(units=3),
    "dense, activation": lambda: nn.dense(3, activation="relu"),
    "dense, kernel_initializer": lambda: nn.dense(3, kernel_initializer="he_normal"),
    "conv, kernel_shape": lambda: nn.conv(3, kernel_shape=(3, 3)),
    "conv, strides": lambda: nn.conv(3, (3, 3), strides=2),
    "max_pool, pool_size": lambda: nn.max_pool(pool_size=2),
    "dropout, p": lambda: nn.dropout(p=0.5),
    "lstm, batch_first": lambda: nn.lstm(3, batch_first=True),
    "lstm, return_sequences": lambda: nn.lstm(3, return_sequences=True),
    "attention, num_heads": lambda: nn.attention(num_heads=2),
    "serial, layers": lambda: nn.serial(layers=[MODEL]),
    "trainer, optimiser": lambda: nn.trainer(MODEL, LOSS, optimiser=nn.adam(0.1)),
    "trainer, loss_fn": lambda: nn.trainer(MODEL, loss_fn=LOSS, optimizer=nn.adam(0.1)),
    "mixture_of_experts, num_experts": lambda: nn.mixture_of_experts(num_experts=4),
    "MoE": lambda: nn.MoE,
    "trainer, aux_loss": lambda: trainer(aux_loss=0.1),
    "nearest, vectors for the index": lambda: nn.retrieval.nearest(X, X, 1),
    "diagnose, a model": lambda: nn.diagnose(MODEL, KEY, (X, X)),
    "diagnose, a loader": lambda: nn.diagnose(TRAINER, KEY, iter([])),
    "failures, shapes": lambda: nn.diagnosis.failures(X, jnp.zeros(3, jnp.int32)),
    "watch, a model": lambda: nn.diagnosis.watch(MODEL, (X, X)),
    "nearest, one query": lambda: nn.retrieval.nearest(nn.retrieval.InnerProduct(X), X[0], 1),
    "saliency, tokens": lambda: nn.explain.saliency(MODEL, PARAMS, {}, Y),
    "saliency, labels of one-hot rows": lambda: nn.explain.saliency(MODEL, PARAMS, {}, X, target=jnp.ones((8, 3))),
    "saliency, no class axis": lambda: nn.explain.saliency(lambda x: x.sum(1), {}, {}, X),
    "guided_backprop, no ReLU": lambda: nn.explain.guided_backprop(nn.serial(MODEL, nn.tanh), {"dense": PARAMS}, {}, X),
    "grad_cam, the layer itself": lambda: nn.explain.grad_cam(MODEL, PARAMS, {}, X, MODEL),
    "grad_cam, a dense layer": lambda: nn.explain.grad_cam(nn.serial(MODEL), {"dense": PARAMS}, {}, X, "dense"),
}
