"""PyTorch on a CPU: eager, channels_last for images, torch.compile; Adam fused, as its documentation recommends."""

from __future__ import annotations

import copy
import os
import resource
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _peers.rows import (
    B1,
    B2,
    DEPTH,
    EPS,
    HEADS,
    LENGTH,
    PROMPT,
    RATE,
    TOKENS,
    VOCABULARY,
    WIDTH,
    Job,
    Row,
    gpt2_shapes,
)  # fmt: skip

QUICK = False  # no torch.compile
torch.set_num_threads(os.cpu_count() or 1)

IMAGES = ("cnn", "small_cnn", "resnet20", "unet", "resnet50", "lite0")


def mlp(*sizes: int) -> list[nn.Module]:
    parts: list[nn.Module] = []
    for pair in pairwise(sizes):
        parts += [nn.Linear(*pair), nn.ReLU()]
    return parts[:-1]


def cnn(widths: tuple[int, ...], hidden: tuple[int, ...] = ()) -> nn.Module:
    parts: list[nn.Module] = []
    for pair in zip((1, *widths[:-1]), widths, strict=True):
        parts += [nn.Conv2d(*pair, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*parts, nn.Flatten(), *mlp((28 // 2 ** len(widths)) ** 2 * widths[-1], *hidden, 10))


class Recurrent(nn.Module):
    def __init__(self, kind: type):
        super().__init__()
        self.core, self.head = kind(128, 256, batch_first=True), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.core(x)[0][:, -1])


class Block(nn.Module):
    """A transformer block; pre-norm and causal for GPT, post-norm for BERT."""

    def __init__(self, d: int, heads: int, causal: bool, eps: float):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d, eps=eps), nn.LayerNorm(d, eps=eps)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.heads, self.causal = heads, causal

    def attend(self, x: Tensor, cache: Tensor | None = None, start: int = 0) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        causal = self.causal and start == 0  # later tokens come one at a time and see all before them
        if cache is not None:
            cache[:, :, :, start : start + t] = torch.stack([k, v])
            k, v = cache[:, :, :, : start + t]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out(y.transpose(1, 2).reshape(n, t, d))

    def forward(self, x: Tensor, cache: Tensor | None = None, start: int = 0) -> Tensor:
        if self.causal:
            x = x + self.attend(self.norm1(x), cache, start)
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))
        x = self.norm1(x + self.attend(x))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class GPT(nn.Module):
    def __init__(self, length: int = LENGTH, depth: int = DEPTH, tied: bool = True):
        super().__init__()
        self.embed, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Parameter(0.02 * torch.randn(length, WIDTH))
        nn.init.normal_(self.embed.weight, std=0.02)
        self.blocks = nn.ModuleList([Block(WIDTH, HEADS, True, 1e-5) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(WIDTH), None if tied else nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor, caches: list[Tensor] | None = None, start: int = 0) -> Tensor:
        x = self.embed(tokens) + self.positions[start : start + tokens.shape[1]]
        for i, block in enumerate(self.blocks):
            x = block(x) if caches is None else block(x, caches[i], start)
        x = self.norm(x)
        return F.linear(x, self.embed.weight) if self.head is None else self.head(x)


class BERT(nn.Module):
    """Tokens to the vectors of tokens and of the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.types = nn.Embedding(30522, 384), nn.Embedding(2, 384)
        self.positions, self.norm = nn.Parameter(0.02 * torch.randn(512, 384)), nn.LayerNorm(384, eps=1e-12)
        self.blocks, self.pool = nn.Sequential(*(Block(384, 12, False, 1e-12) for _ in range(6))), nn.Linear(384, 384)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(tokens) + self.types(torch.zeros_like(tokens)) + self.positions[: tokens.shape[1]]
        x = self.blocks(self.norm(x))
        return x, torch.tanh(self.pool(x[:, 0]))


def unit(d: int, features: int, size: int = 3, stride: int = 1, groups: int = 1, eps: float = 1e-5) -> nn.Sequential:
    conv = nn.Conv2d(d, features, size, stride, padding=size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(features, eps=eps))


class Basic(nn.Module):
    def __init__(self, d: int, features: int, stride: int):
        super().__init__()
        self.first, self.second = unit(d, features, stride=stride), unit(features, features)
        self.stride, self.more = stride, features - d

    def forward(self, x: Tensor) -> Tensor:
        h = self.second(F.relu(self.first(x)))
        skip = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more)) if self.more else x
        return F.relu(h + skip)


class Bottleneck(nn.Module):
    def __init__(self, d: int, width: int, stride: int):
        super().__init__()
        self.first, self.second = unit(d, width, 1), unit(width, width, 3, stride)
        self.third = unit(width, 4 * width, 1)
        self.skip = unit(d, 4 * width, 1, stride) if d != 4 * width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.second(F.relu(self.first(x))))
        return F.relu(self.third(h) + self.skip(x))


class Inverted(nn.Module):
    def __init__(self, d: int, features: int, size: int, stride: int, expansion: int):
        super().__init__()
        inner, parts = d * expansion, []
        if expansion > 1:
            parts += [unit(d, inner, 1, eps=1e-3), nn.ReLU6()]
        parts += [unit(inner, inner, size, stride, inner, 1e-3), nn.ReLU6(), unit(inner, features, 1, eps=1e-3)]
        self.parts, self.around = nn.Sequential(*parts), d == features and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        return x + self.parts(x) if self.around else self.parts(x)


def resnet20() -> nn.Module:
    blocks, d = [], 16
    for features, first in ((16, 1), (32, 2), (64, 2)):
        for stride in (first, 1, 1):
            blocks.append(Basic(d, features, stride))
            d = features
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(unit(3, 16), nn.ReLU(), *blocks, *end)


def resnet50() -> nn.Module:
    blocks, d = [], 64
    for i, n in enumerate((3, 4, 6, 3)):
        for j in range(n):
            blocks.append(Bottleneck(d, 64 * 2**i, 2 if i and j == 0 else 1))
            d = 256 * 2**i
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000)]
    return nn.Sequential(unit(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), *blocks, *end)


def lite0() -> nn.Module:
    stages = [(3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3)]
    stages += [(5, 2, 6, 192, 4), (3, 1, 6, 320, 1)]
    blocks, d = [], 32
    for size, first, expansion, features, n in stages:
        for j in range(n):
            blocks.append(Inverted(d, features, size, 1 if j else first, expansion))
            d = features
    end = [unit(320, 1280, 1, eps=1e-3), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
    return nn.Sequential(unit(3, 32, 3, 2, eps=1e-3), nn.ReLU6(), *blocks, *end)


class UNet(nn.Module):
    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 128)):
        super().__init__()

        def double(d: int, width: int) -> nn.Module:
            convs = nn.Conv2d(d, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
            return nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU())

        self.downs = nn.ModuleList([double(d, w) for d, w in zip((3, *widths[:-1]), widths, strict=True)])
        self.middle = double(widths[-1], 2 * widths[-1])
        self.rises = nn.ModuleList([nn.ConvTranspose2d(2 * w, w, 2, 2) for w in reversed(widths)])
        self.ups = nn.ModuleList([double(2 * w, w) for w in reversed(widths)])
        self.head = nn.Conv2d(widths[0], 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.downs:
            skips.append(down(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.middle(x)
        for rise, up in zip(self.rises, self.ups, strict=True):
            x = up(torch.cat([skips.pop(), rise(x)], 1))
        return self.head(x)


NETS: dict[str, Callable[..., nn.Module]] = {
    "mlp": lambda: nn.Sequential(*mlp(784, 512, 512, 10)),
    "tiny": lambda: nn.Sequential(*mlp(64, 32, 10)),
    "chain": lambda *sizes: nn.Sequential(*mlp(*sizes)),
    "cnn": lambda: cnn((32, 64), (128,)),
    "small_cnn": lambda: cnn((16, 32)),
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "gpt": GPT,
    "gpt48": lambda: GPT(depth=48, tied=False),
    "resnet20": resnet20,
    "unet": UNet,
    "resnet50": resnet50,
    "lite0": lite0,
    "bert": BERT,
}


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def tensors(row: Row, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
    """Data in PyTorch's layout."""
    a, b = torch.from_numpy(x), torch.from_numpy(y).long()
    if row.net in IMAGES:
        a = a.movedim(-1, -3).contiguous()
    return (a.long() if not a.is_floating_point() else a), b


def cross_entropy(logits: Tensor, y: Tensor, net: str) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), y.flatten()) if net[:3] == "gpt" else F.cross_entropy(logits, y)


def variants(row: Row, model: nn.Module, x: Tensor, compiling: bool) -> dict[str, tuple[Any, Any, Tensor]]:
    """name -> the model as parameters, as a function, and its input."""
    found = {"eager": (model, model, x)}
    if row.net in IMAGES:
        last = copy.deepcopy(model).to(memory_format=torch.channels_last)
        found["channels_last"] = (last, last, x.contiguous(memory_format=torch.channels_last))
    if compiling and not QUICK:
        name = "channels_last" if row.net in IMAGES else "eager"
        model, _, x = found[name]
        model = copy.deepcopy(model)
        found["compile"] = (model, torch.compile(model), x)
    return found


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), RATE, (B1, B2), EPS, fused=True)


def jobs(row: Row, x: np.ndarray, y: np.ndarray) -> dict[str, Job]:
    torch.manual_seed(0)
    if row.kind == "update":
        return updates()
    if row.kind == "tokens":
        return {"eager": tokens(torch.from_numpy(x).long())}
    if row.kind == "restart":
        return {}
    a, b = tensors(row, x, y)
    if row.kind == "members":
        return members(row, a, b)
    if row.kind == "run":
        return {"eager": epoch(row, a, b)}
    model = NETS[row.net](*row.sizes)
    if row.kind == "outputs":
        model.eval()
        return {name: outputs(f, a, count(model)) for name, (_, f, a) in variants(row, model, a, True).items()}
    if row.kind == "memory":
        return {"eager": memory(stepping(row, model, model, a, b))}
    found = variants(row, model, a, row.kind == "step")
    if row.kind in ("first", "start"):
        found = {"eager": found["eager"]}
    return {name: stepping(row, made, f, a, b) for name, (made, f, a) in found.items()}


def stepping(row: Row, model: nn.Module, f: Callable, x: Tensor, y: Tensor) -> Job:
    optimizer, seen = adam(model), {}

    def run() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(f(x), y, row.net)
        loss.backward()
        optimizer.step()
        seen.setdefault("first", loss)
        seen["last"] = loss
        return loss

    return Job(run, count(model), lambda: (seen["first"].item(), seen["last"].item()))


def epoch(row: Row, x: Tensor, y: Tensor) -> Job:
    """A run: parameters, a random order, and a loop."""
    seen: list[Tensor] = []

    def run() -> None:
        model = NETS[row.net]()
        if row.net in IMAGES:
            model = model.to(memory_format=torch.channels_last)
        optimizer = adam(model)
        seen.clear()
        for i in torch.randperm(len(x)).view(-1, row.batch):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[i]), y[i])
            loss.backward()
            optimizer.step()
            seen.append(loss.detach())

    def losses() -> tuple[float, float]:
        part = max(1, len(seen) // 10)
        return float(sum(seen[:part])) / part, float(sum(seen[-part:])) / part

    return Job(run, count(NETS[row.net]()), losses)


def members(row: Row, x: Tensor, y: Tensor) -> dict[str, Job]:
    """Steps of several networks by torch.func.vmap, and in turn."""
    models = [NETS[row.net]() for _ in range(row.members)]
    each = [stepping(row, model, model, x[i], y[i]) for i, model in enumerate(copy.deepcopy(models))]

    def in_turn() -> list:
        return [job.run() for job in each]

    def losses() -> tuple[float, float]:
        first, last = zip(*(job.losses() for job in each if job.losses), strict=True)
        return sum(first) / len(first), sum(last) / len(last)

    params, _ = torch.func.stack_module_state(models)
    optimizer = torch.optim.Adam(params.values(), RATE, (B1, B2), EPS, fused=True)

    def loss(params: Any, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(models[0], params, (x,)), y)

    gradients, seen = torch.func.vmap(torch.func.grad_and_value(loss)), {}

    def together() -> Tensor:
        grads, value = gradients(params, x, y)
        for name, p in params.items():
            p.grad = grads[name]
        optimizer.step()
        seen.setdefault("first", value.mean().item())
        seen["last"] = value.mean().item()
        return value

    total = count(models[0])
    found = {"in turn": Job(in_turn, total, losses)}
    return found | {"vmap": Job(together, total, lambda: (seen["first"], seen["last"]))}


def outputs(f: Callable, x: Tensor, total: int) -> Job:
    def run() -> Any:
        with torch.inference_mode():
            return f(x)

    return Job(run, total)


def memory(job: Job) -> Job:
    """The growth of the process's peak memory by two steps, and the model with its gradients and moments."""

    def needed() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(2):
            job.run()
        return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) + 4 * job.params

    return Job(lambda: None, job.params, None, needed)


def updates() -> dict[str, Job]:
    found = {}
    for form in ("foreach", "fused"):
        params = [torch.full(shape, 0.02) for shape in gpt2_shapes()]
        for p in params:
            p.grad = torch.full_like(p, 1e-3)
        optimizer = torch.optim.Adam(params, RATE, (B1, B2), EPS, **{form: True})
        found[form] = Job(optimizer.step, sum(p.numel() for p in params))
    return found


def tokens(prompt: Tensor) -> Job:
    model, n = GPT(PROMPT + TOKENS).eval(), len(prompt)
    shape = (2, n, HEADS, PROMPT + TOKENS, WIDTH // HEADS)

    def run() -> Tensor:
        caches, found, at = [torch.zeros(shape) for _ in range(DEPTH)], [], 0
        with torch.inference_mode():
            token = prompt
            for _ in range(TOKENS):
                logits = model(token, caches, at)
                at += token.shape[1]
                token = logits[:, -1:].argmax(-1)
                found.append(token)
        return torch.cat(found, 1)

    return Job(run, count(model))
