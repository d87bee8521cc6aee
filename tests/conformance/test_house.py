"""The rules of the house: what an import does, which way imports point, and what every public name owes its reader."""

import ast
import importlib
import importlib.metadata
import inspect
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

import jaxnn as nn

ROOT = Path(__file__).parents[2]
PACKAGE = Path(nn.__file__).parent  # in an unpacked sdist, that of the installed wheel
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Importing.

PROBE = """
import sys
import jax
before = dict(jax.config.values)
import jaxnn
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized(), "a backend was initialised"
assert dict(jax.config.values) == before, "jax's configuration was changed"
print(*sorted({name.split(".")[0] for name in sys.modules} & {HEAVY}))
"""
HEAVY = {"equinox", "flax", "h5py", "matplotlib", "onnx", "orbax", "pandas", "rich", "scipy", "sklearn"}


def heavy_after(statement):
    """Which of the heavy packages are loaded by a statement in a new process."""
    program = PROBE.replace("import jaxnn", statement).replace("{HEAVY}", repr(HEAVY))
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_an_import_touches_no_backend_no_config_and_nothing_heavy():
    assert heavy_after("import jaxnn") <= heavy_after("import jax, optax")


# The direction of imports: for each room, the only rooms that it may know.

BASE = {"_calls", "_checks", "_dtypes", "_elsewhere", "_errors", "_filled", "_gather", "_inputs", "_keys"}
BASE |= {"_mesh", "_paths"}
LAYER = {"_call", "_layer", "_padded", "_sketch"}
ALLOWED = {
    "types": set(),  # which every room may import
    "_cache": set(),
    "_calls": {"_elsewhere", "_errors"},
    "_elsewhere": set(),
    "_errors": set(),
    "_filled": {"_inputs", "_platform"},
    "_checks": {"_dtypes", "_errors", "_inputs"},
    "_dtypes": set(),
    "_gather": set(),
    "_inputs": {"_dtypes", "_keys", "_mesh"},
    "_keys": {"_platform"},
    "_mesh": set(),
    "_paths": {"_errors"},
    "_elementwise": {"_calls", "_errors", "_flat"},
    "_flat": set(),
    "_flops": set(),
    "_kept": {"_flops", "_layer"},
    "_means": set(),
    "_moments": {"_dtypes", "_inputs", "_numbers"},
    "_numbers": {"_inputs"},
    "_padded": set(),
    "_platform": set(),
    "activations": BASE,
    "init": BASE,
    "losses": BASE | {"_means", "_numbers"},
    "metrics": BASE | {"_means", "_numbers", "losses"},
    "distributions": BASE | {"losses"},
    "_weights": {"_checks", "_dtypes", "_errors", "_paths"},
    "regularizers": BASE | {"_numbers", "_weights"},
    "constraints": BASE | {"_numbers", "_weights"},
    "optimizers": BASE | {"_elementwise", "_flat", "_moments", "_numbers"},
    "ops": BASE | {"_platform"},
    "_sketch": BASE,
    "_layer": BASE | {"_padded", "_sketch"},
    "_call": BASE | {"_layer", "_padded", "_sketch"},
    "_pipeline": BASE,
    "combinators": BASE | LAYER | {"_pipeline"},
    "_capture": BASE | LAYER,
    "_export": BASE | LAYER | {"_platform"},
    "_summary": BASE | LAYER | {"_flops", "_kept", "sharding"},
    "layers": BASE | LAYER | {"_platform", "combinators", "ops", "init", "activations"},
    "models": BASE | LAYER | {"combinators", "layers", "ops", "init", "activations"},
    "compiler": {"_cache", "_checks", "_errors", "_platform"},
    "data": BASE | {"_cache"},
    "io": BASE | {"_flat"},
    "train": BASE | LAYER | {"_means", "_moments", "_numbers", "combinators", "compiler", "metrics", "io"},
    "sharding": BASE | {"_platform", "train"},
    "runs": BASE | LAYER | {"_flops", "compiler", "metrics", "train"},
    "augment": BASE | {"ops"},
    "linear": BASE | {"losses"},
    "retrieval": BASE | {"losses"},
    "interop": BASE | LAYER | {"_platform", "layers", "models", "ops", "io", "data"},
    "diagnosis": BASE | LAYER | {"_capture", "compiler", "linear", "metrics", "retrieval", "train"},
    "explain": BASE | LAYER | {"_capture", "compiler", "linear", "ops", "retrieval", "train"},
    "testing": {"_checks", "_elsewhere", "_errors", "_layer", "_paths", "compiler"},
}


def imported(path):
    """The modules of ours that a file imports, with full names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "jaxnn"}


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_one_way(path):
    room = path.relative_to(PACKAGE).with_suffix("").parts[0]
    known = {name.split(".")[1] for name in imported(path) if "." in name}
    assert "jaxnn" not in imported(path), "the package is imported as a whole"
    assert known - {room, "types"} <= ALLOWED[room]


def test_the_page_on_the_architecture_names_every_room():
    page = (ROOT / "docs" / "architecture.md").read_text()
    rooms = {path.relative_to(PACKAGE).parts[0] for path in FILES}
    assert {room for room in rooms if f"`{room}`" not in page and f"`{room}/`" not in page} == set()


def test_only_the_top_knows_the_data():
    top = {name.split(".")[1] for name in imported(PACKAGE / "__init__.py")}
    rooms = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if re.fullmatch(r"[a-z]\w*(\.py)?", path.name)}
    assert rooms <= top | {"layers"}


def test_no_module_bears_the_name_of_a_public_function():
    modules = {path.stem for path in FILES}
    assert {name.rpartition(".")[2] for name in THINGS} & modules == set()


# Tests.

# Each module has a test file of its name in the folder of its room. Families that one table covers, and private helpers
# that are tested through their callers, are listed here: modules of the room of the file, or from the root, "/types".
TESTED_IN = {
    "test_checks.py": ["_dtypes"],
    "test_compiler.py": ["_platform"],
    "test_errors.py": ["_elsewhere", "_inputs"],
    "test_layer.py": ["_call", "_sketch"],
    "test_regularizers.py": ["_weights"],
    "activations/test_activations.py": [
        "_checks",
        "_elementwise",
        "_gates",
        "_rectifiers",
        "_saturating",
    ],
    "augment/test_table.py": ["_images"],
    "conformance/test_house.py": ["/types"],
    "conformance/test_padded.py": ["/_padded", "/layers/_lengths"],
    "data/test_batching.py": ["_checks"],
    "data/test_datasets.py": ["_readers", "_sources"],
    "diagnosis/test_diagnose.py": [
        "_facts",
        "_look",
        "_losses",
        "_measure",
        "_measure_data",
        "_rules",
        "_rules_data",
        "_rules_model",
    ],
    "diagnosis/test_finished.py": ["_rules_run"],
    "distributions/test_categorical.py": ["_checks"],
    "explain/test_plot.py": ["_extras", "_figures"],
    "explain/test_relus.py": ["_swap"],
    "explain/test_synthesis.py": ["_ascent", "_filters"],
    "interop/test_checkpoints.py": ["_namings"],
    "interop/test_flax.py": ["_checks"],
    "interop/test_loading.py": [
        "_layout",
        "_layout_attention",
        "_layout_conv",
        "_layout_dense",
        "_layout_recurrent",
        "_layouts",
        "_match",
        "_names",
        "_turns",
        "_units",
    ],
    "interop/test_hostile.py": ["_pickle", "_source", "_zip"],
    "interop/test_to_onnx.py": ["_onnx_elementwise", "_onnx_graph", "_onnx_shapes", "_onnx_sums", "_protobuf"],
    "interop/test_read.py": ["_keras", "_mapping", "_msgpack", "_npz", "_onnx", "_safetensors"],
    "io/test_checkpoint.py": ["_structure"],
    "io/test_hostile.py": ["_decode"],
    "layers/test_layers.py": ["_conv", "_linear", "_noise", "_pool", "_resize", "_weights"],
    "layers/test_reparametrize.py": ["/train/_recalibrate"],
    "layers/test_sequences.py": ["_attention", "_cache", "_positions", "_recurrent", "_transformer"],
    "linear/test_logistic.py": ["_newton"],
    "linear/test_regression.py": ["_checks", "_least_squares"],
    "losses/test_losses.py": ["_checks"],
    "losses/test_table.py": ["_classification", "_cross_entropy", "_margin", "_regression"],
    "losses/test_whole_batch.py": ["_embedding", "_overlap", "_sequence"],
    "metrics/test_metrics.py": ["_checks", "_classification", "_direction"],
    "metrics/test_values.py": ["_regression"],
    "ops/test_conv_lax.py": ["_bilinear", "_cpu_conv"],
    "ops/test_pool_edges.py": ["_largest", "_window"],
    "ops/test_recurrent.py": ["_lengths", "_recurrence", "_wide"],
    "ops/test_resize.py": ["_grid"],
    "models/test_models.py": [
        "_autoencoder",
        "_bert",
        "_char_rnn",
        "_crepe",
        "_dcgan",
        "_ddpm_unet",
        "_denoising",
        "_efficientnet",
        "_gpt",
        "_hed",
        "_lenet",
        "_lrcn",
        "_mlp",
        "_inverted_residual",
        "_mobilenet",
        "_mtcnn",
        "_parts",
        "_residual",
        "_resnet",
        "_wide_resnet",
        "_siamese",
        "_silero_vad",
        "_unet",
        "_vgg",
        "_vit",
    ],
    "optimizers/test_checks.py": ["/_numbers"],
    "optimizers/test_flat.py": ["/_flat"],
    "optimizers/test_whole_arrays.py": ["_adafactor", "_lamb", "_lars", "_muon", "_trust_ratio"],
    "optimizers/test_rules.py": [
        "_adadelta",
        "_adagrad",
        "_adam",
        "_adamax",
        "_lion",
        "_radam",
        "_rmsprop",
        "_rprop",
        "_sgd",
    ],
    "runs/test_points.py": ["_checks"],
    "runs/test_sweep.py": ["/_flops", "_leaderboard", "_memory"],
    "sharding/test_shard.py": ["_axes", "_checks", "_rules", "/_gather", "/_pipeline"],
    "train/test_drive.py": ["_pieces", "_programs", "_progress"],
    "train/test_failure.py": ["_faults"],
    "train/test_fit.py": ["_while", "_epoch"],
    "train/test_folder.py": ["/io/_folder"],
    "train/test_settings.py": ["_plan"],
    "train/test_trainer.py": ["_checks"],
    "train/test_weigh.py": ["/_means"],
}


def test_every_module_has_its_test_file():
    tests = ROOT / "tests"
    elsewhere = set()
    for file, modules in TESTED_IN.items():
        assert (tests / file).is_file(), file
        for module in modules:
            room = PACKAGE if module.startswith("/") else PACKAGE / Path(file).parent
            path = room / f"{module.removeprefix('/')}.py"
            assert path.is_file(), path
            elsewhere.add(path)
    of_its_name = {
        path
        for path in FILES
        if (tests / path.relative_to(PACKAGE).parent / f"test_{path.stem.removeprefix('_')}.py").is_file()
    }
    files = {path for path in FILES if path.stem != "__init__"}
    assert {path.name for path in files - of_its_name - elsewhere} == set()
    assert {path.name for path in of_its_name & elsewhere} == set()


# Checks.


def lines_of(nodes):
    return {line for node in nodes for line in range(node.lineno, node.end_lineno + 1)}


def is_check(node):
    """A raise, a branch that ends in one, or a call of a check, alone or assigned."""
    if isinstance(node, ast.If):
        return not node.orelse and isinstance(node.body[-1], ast.Raise)
    if isinstance(node, ast.Expr | ast.Assign):
        called = (ast.unparse(part.func) for part in ast.walk(node.value) if isinstance(part, ast.Call))
        return any(re.search(r"(^|\.)_?check(_|\.|ed)", name) for name in called)
    return isinstance(node, ast.Raise)


ROOMS_OF_CHECKS = {"_checks.py", "_errors.py", "__init__.py"}


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.name not in ROOMS_OF_CHECKS], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_no_module_has_more_checks_than_maths(path):
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    lines = lines_of(node for function in functions for node in function.body) - lines_of(texts)
    assert 2 * len(lines_of(filter(is_check, ast.walk(tree))) & lines) <= len(lines)


@pytest.mark.parametrize("path", sorted((PACKAGE / "models").glob("*.py")), ids=lambda p: p.name)
def test_a_model_is_at_most_60_lines(path):
    """Without docstrings, comments and imports: as short as the figure in its paper."""
    tree = ast.parse(path.read_text())
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    lines = {n for n, line in enumerate(path.read_text().splitlines(), start=1) if line.split("#")[0].strip()}
    assert len(lines - lines_of([*texts, *imports])) <= 60


# Public names.

ROOMS = {
    "jaxnn": nn,
    **{
        f"jaxnn.{name}": importlib.import_module(f"jaxnn.{name}")
        for name in (
            "ops",
            "losses",
            "metrics",
            "distributions",
            "regularizers",
            "constraints",
            "init",
            "data",
            "augment",
            "activations",
            "optimizers",
            "layers",
            "models",
            "train",
            "sharding",
            "runs",
            "runs.points",
            "io",
            "interop",
            "linear",
            "retrieval",
            "diagnosis",
            "explain",
            "explain.plot",
            "testing",
        )
    },
}
NAMES = [(room, name) for room, module in ROOMS.items() for name in module.__all__]
THINGS = {
    f"{room}.{name}": getattr(ROOMS[room], name)
    for room, name in NAMES
    if not isinstance(getattr(ROOMS[room], name), types.ModuleType)
}


def test_lists_of_names_are_whole():
    for room, module in ROOMS.items():
        listed = list(module.__all__)
        assert len(listed) == len(set(listed)), f"{room}: a name twice"
        public = {
            name
            for name, value in vars(module).items()
            if not name.startswith("_")
            and (inspect.isfunction(value) or inspect.isclass(value))
            and (value.__module__ == room or (hasattr(module, "__path__") and value.__module__.startswith("jaxnn.")))
        }
        assert public <= set(listed), f"{room}: {sorted(public - set(listed))} are not in __all__"
        assert [name for name in listed if not hasattr(module, name)] == []


def test_the_top_hands_on_what_its_rooms_hold():
    for room in ("layers", "train", "runs", "io", "activations", "optimizers"):
        module = ROOMS[f"jaxnn.{room}"]
        for name in set(module.__all__) & set(nn.__all__):
            assert getattr(module, name) is getattr(nn, name), f"{name} of {room} is another at the top"


# records that others make
SHOWN_BY = {"Tap": nn.capture, "Dataset": nn.data.load, "Unavailable": nn.data.load, "Plan": nn.interop.plan}
SHOWN_BY |= {"Checkpoint": nn.interop.fetch, "Failures": nn.diagnosis.failures, "LabelNoise": nn.diagnosis.label_noise}
SHOWN_BY |= {"LearningCurve": nn.diagnosis.learning_curve, "Overfit": nn.diagnosis.overfit_sample}
SHOWN_BY |= {"RangeTest": nn.diagnosis.range_test, "Scores": nn.diagnosis.baseline_scores}


@pytest.mark.parametrize("name", THINGS)
def test_every_name_has_a_docstring_with_an_example_that_runs(name):
    thing = THINGS[name]
    assert inspect.isfunction(thing) or inspect.isclass(thing)
    doc = inspect.getdoc(thing)
    assert doc
    if thing.__name__ not in SHOWN_BY:
        assert ">>> " in doc, "no example"


@pytest.mark.parametrize("name", THINGS)
def test_every_name_is_annotated(name):
    thing = THINGS[name]
    if inspect.isclass(thing):
        if issubclass(thing, tuple):
            assert list(thing.__annotations__) == list(thing._fields)
        return
    signature = inspect.signature(thing)
    bare = [p.name for p in signature.parameters.values() if p.annotation is inspect.Parameter.empty]
    assert bare == []
    assert signature.return_annotation is not inspect.Signature.empty


@pytest.fixture(scope="module")
def tested():
    """Every identifier in the code of the tests, and every string: tables go by name."""
    words = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        if path != Path(__file__):
            for node in ast.walk(ast.parse(path.read_text())):
                fields = (getattr(node, field, None) for field in ("id", "attr", "name", "value"))
                words |= {word for word in fields if isinstance(word, str)}
    return words


@pytest.mark.parametrize("name", THINGS)
def test_every_name_stands_in_a_test(name, tested):
    assert name.rpartition(".")[2] in tested


# The papers of the house.


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/overview.md"])
def test_the_code_of_the_readme_runs(page, tmp_path, monkeypatch):
    readme = ROOT / page
    monkeypatch.chdir(tmp_path)
    text = readme.read_text()
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    assert blocks
    space = {"__name__": "readme"}
    for block in blocks:
        line = text[: block.start(1)].count("\n")
        exec(compile("\n" * line + block[1], str(readme), "exec"), space)


def requirements():
    found = {}
    for text in PROJECT["dependencies"]:
        name, bound = re.fullmatch(r"([A-Za-z0-9_-]+)>=([0-9.]+)", text).groups()
        found[name] = tuple(map(int, bound.split(".")))
    return found


def test_examples_and_benchmarks_with_several_cpu_devices_give_them_enough_threads():
    programs = [*ROOT.glob("examples/*.py"), *ROOT.glob("benchmarks/**/*.py")]
    hanging = [p.name for p in programs if "jax_num_cpu_devices" in p.read_text()]
    assert hanging == [], "they can wait for ever: use nn.cores_as_devices"


def test_what_is_imported_is_required_and_new_enough():
    needed = requirements()
    for name, bound in needed.items():
        version = re.match(r"[0-9.]*[0-9]", importlib.metadata.version(name))[0]
        assert tuple(map(int, version.split("."))) >= bound, name
    assert needed["jax"] == needed["jaxlib"]
    outside = set()
    for path in [*FILES, PACKAGE / "__init__.py"]:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                outside |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                outside.add(node.module.split(".")[0])
    assert outside - set(sys.stdlib_module_names) - {"jaxnn"} <= set(needed)


def test_versions_agree():
    assert PROJECT["version"] == nn.__version__
    least = tuple(map(int, PROJECT["requires-python"].removeprefix(">=").split(".")))
    assert sys.version_info[:2] >= least
    assert f"Programming Language :: Python :: {least[0]}.{least[1]}" in PROJECT["classifiers"]
