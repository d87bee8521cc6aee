"""ONNX Runtime on the graphs that PyTorch exports, for inference."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from _peers import torch_peer
from _peers.rows import Job, Row


def jobs(row: Row, x: np.ndarray, y: np.ndarray) -> dict[str, Job]:
    if row.kind != "outputs":
        return {}
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch_peer.NETS[row.net]()).eval()  # of one argument: GPT has optional ones
    a, _ = torch_peer.tensors(row, x, y)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = Path(folder) / "net.onnx"
        torch.onnx.export(model, (a,), str(file), input_names=["x"], dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = os.cpu_count() or 1
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    given = {"x": a.numpy()}
    return {"session": Job(lambda: session.run(None, given), torch_peer.count(model))}
