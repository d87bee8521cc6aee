"""Attributions of a small convolutional network by captum, written with its weights to tests/explain/captum.npz.

pip install captum==0.9.0 torch==2.13.0
python tools/attributions.py
"""

from pathlib import Path

import numpy as np
import torch
from captum import attr
from torch import nn

CLASSES = [3, 0]  # the explained class of each image


def main() -> None:
    """Explains two random images, in float64, by each method that captum shares with nn.explain."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    convs = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
    head = nn.Linear(8, 5)
    model = nn.Sequential(
        *(convs[0], nn.ReLU(), nn.MaxPool2d(2), convs[1], nn.ReLU()), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
    )
    x, base = torch.randn(2, 3, 12, 12), torch.tensor([0.5, -0.25, 0.0]).reshape(1, 3, 1, 1)
    how = {"target": CLASSES}
    windows = {"occlusion": ((3, 4, 4), (3, 4, 4)), "occlusion_overlapping": ((3, 5, 4), (3, 2, 3))}
    maps = {
        "saliency": attr.Saliency(model).attribute(x, abs=False, **how),
        "input_x_gradient": attr.InputXGradient(model).attribute(x, **how),
        "integrated_gradients": attr.IntegratedGradients(model).attribute(x, base, n_steps=50, **how),
        "guided_backprop": attr.GuidedBackprop(model).attribute(x, **how),
        "deconvnet": attr.Deconvolution(model).attribute(x, **how),
        "grad_cam": attr.LayerGradCam(model, model[4]).attribute(x, relu_attributions=True, **how),
    }
    for name, (window, stride) in windows.items():
        maps[name] = attr.Occlusion(model).attribute(x, window, stride, baselines=base.expand_as(x), **how)[:, :1]
    weights = {}
    for i, conv in enumerate(convs):
        weights |= {f"conv{i}_w": conv.weight.permute(2, 3, 1, 0), f"conv{i}_b": conv.bias}
    arrays = {"x": x.permute(0, 2, 3, 1), **weights, "dense_w": head.weight.T, "dense_b": head.bias}
    arrays |= {name: values.permute(0, 2, 3, 1) for name, values in maps.items()}
    path = Path(__file__).parents[1] / "tests" / "explain" / "captum.npz"
    np.savez_compressed(path, **{name: a.detach().numpy().astype(np.float32) for name, a in arrays.items()})


if __name__ == "__main__":
    main()
