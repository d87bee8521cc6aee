"""Files of PyTorch itself, where it is installed; samples of such files are in test_read.py and test_hostile.py."""

import argparse
import datetime
import pathlib

import jax
import ml_dtypes
import numpy as np
import pytest

import jaxnn as nn
from jaxnn.interop import dump, read, write

torch = pytest.importorskip("torch", reason="torch is not installed: only samples of its files are tested")

BASE = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
VIEWS = {
    "base": BASE,
    "transposed": BASE.t(),
    "row": BASE[1],
    "column": BASE[:, 2],
    "part": BASE[1:3, ::2],
    "expanded": torch.ones(1, 1).expand(3, 4),
    "parameter": torch.nn.Parameter(BASE.clone()),
    "empty": torch.zeros(0, 3),
    "scalar": torch.tensor(3.5),
}
DTYPES = "float32 float64 float16 bfloat16 int8 int16 int32 int64 uint8 bool complex64 complex128 uint16 uint32 uint64"
EIGHT = [
    name for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz") if hasattr(torch, name)
]
TENSORS = VIEWS | {name: BASE.abs().to(getattr(torch, name)) for name in [*DTYPES.split(), *EIGHT]}


def bits(tensor):
    """A tensor as NumPy, also those of dtypes that NumPy does not have."""
    tensor, name = tensor.detach().resolve_conj(), str(tensor.dtype).removeprefix("torch.")
    if name not in ("bfloat16", *EIGHT):
        return tensor.numpy()
    raw = tensor.contiguous().view(torch.int16 if name == "bfloat16" else torch.uint8).numpy()
    return raw.view(getattr(ml_dtypes, name))


def flat(node, name=""):
    if isinstance(node, torch.Tensor):
        return {name: bits(node)}
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    found = {}
    for key, child in children:
        found |= flat(child, f"{name}.{key}" if name else str(key))
    return found


def module():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.LSTM(4, 5))


def checkpoint():
    model = module()
    optimizer = torch.optim.Adam(model.parameters())
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    return {
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "arguments": argparse.Namespace(rate=1),
        "numpy": [np.float64(2), np.ones(3)],
        "path": pathlib.Path("x"),
        "when": datetime.datetime(2020, 1, 1),
        "size": torch.Size([2]),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
        "set": {1, 2},
        "shared": [BASE, BASE.t()],
    }


OBJECTS = {"tensors": lambda: TENSORS, "one": lambda: BASE, "list": lambda: [BASE, (BASE,)], "checkpoint": checkpoint}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("case", OBJECTS)
def test_files_of_torch_save(tmp_path, case, zipped, protocol):
    tree, path = OBJECTS[case](), tmp_path / "net.pt"
    torch.save(tree, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    found, expected = read(path), flat(tree)
    assert list(found) == list(expected)
    for name, x in expected.items():
        np.testing.assert_array_equal(found[name], x, name, strict=True)


def test_torch_loads_what_is_written(tmp_path):
    arrays = flat(TENSORS)
    write(tmp_path / "net.pt", arrays)
    for mapped in (False, True):
        found = torch.load(tmp_path / "net.pt", weights_only=True, mmap=mapped)
        assert list(found) == list(arrays)
        for name, x in arrays.items():
            np.testing.assert_array_equal(bits(found[name]), x, name, strict=True)
    model, other = module(), module()
    write(tmp_path / "net.pt", flat(model.state_dict()))
    other.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True), strict=True)
    assert all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))


# ours, theirs, shape of x, rules, axes of x there
NETWORKS = {
    "images": (
        nn.serial(nn.conv(4, 3, padding=1), nn.batch_norm(), nn.prelu(), nn.max_pool(2), nn.flatten(), nn.dense(5)),
        lambda: torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3, padding=1),
            torch.nn.BatchNorm2d(4),
            torch.nn.PReLU(4),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(4 * 3 * 4, 5),
        ),
        (2, 6, 8, 3),
        {"0": "conv", "1": "batch_norm", "2": "prelu", "5": "dense"},
        (0, 3, 1, 2),
    ),
    "sequences": (
        nn.lstm(4, layers=2, bidirectional=True),
        lambda: torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True),
        (2, 5, 3),
        None,
        (0, 1, 2),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", NETWORKS)
def test_load_state_dict_takes_a_model_of_ours(case, tmp_path):
    model, make, shape, names, axes = NETWORKS[case]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    params, state = model.init(jax.random.key(0), x)
    _, state = model.apply(params, state, x, key=jax.random.key(1), train=True)
    write(tmp_path / "net.pt", dump(model, x, params, state, names=names))
    theirs = make()
    theirs.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True), strict=True)
    theirs.eval()
    with torch.no_grad():
        y = theirs(torch.from_numpy(np.ascontiguousarray(x.transpose(axes))))
    y = y[0] if isinstance(y, tuple) else y
    np.testing.assert_allclose(model.apply(params, state, x)[0], y.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_tensors_of_other_kinds(tmp_path):
    others = {
        "sparse": BASE.to_sparse(),
        "quantized": torch.quantize_per_tensor(BASE, 0.1, 0, torch.qint8),
        "lazy": torch.complex(BASE, BASE).conj(),
        "nested": torch.nested.nested_tensor([BASE, BASE[:2]]),
        "module": module(),
    }
    for name, x in others.items():
        torch.save({"x": x}, tmp_path / f"{name}.pt")
        with pytest.raises(ValueError, match=r"expected (dense tensors|a PyTorch file)"):
            read(tmp_path / f"{name}.pt")
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "script.pt")
    with pytest.raises(ValueError, match="got a TorchScript archive"):
        read(tmp_path / "script.pt")
