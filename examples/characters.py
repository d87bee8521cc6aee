"""Shakespeare by the character: an LSTM, a GRU and a GPT against an n-gram model.

    python examples/characters.py [folder for the picture, by default out] [--short]

Networks of 105 000 params see the same 500 000 characters four times. Each is judged on the first 30 000 characters of
three held-out plays, alone and mixed with an interpolated modified Kneser-Ney model of the same text, whose order, and
the weight of the mixture, are chosen on a fourth play. Three seeds of a network train at once.

                     bits per character,    below the      processor seconds
                          mean of 3 seeds    n-grams, %    of 3 seeds
    n-grams                         2.439                           1
    LSTM                    2.615 ± 0.003          -7.2            86
    LSTM and n-grams        2.357 ± 0.004           3.3
    GRU                     2.512 ± 0.006          -3.0            93
    GRU and n-grams         2.336 ± 0.003           4.2
    GPT                     2.815 ± 0.024         -15.4           104 for three of the four epochs
    GPT and n-grams         2.379 ± 0.005           2.4

Alone the n-grams win: they count the contexts of up to five characters in a second, where networks of this size need
far more steps than two minutes on two cores allow. With nine times the text they have 2.161 bits. But the networks see
up to 64 characters and err elsewhere: a mixture is better than both of its parts. The GPT is last with equal params and
characters, and takes the most time.

An interrupted run, after Ctrl-C or SIGTERM, continues in the same folder after its last epoch.

Chen and Goodman, An Empirical Study of Smoothing Techniques for Language Modeling, 1998 (the n-grams); Graves,
Generating Sequences With Recurrent Neural Networks, 2013, arXiv:1308.0850.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from _ngrams import bits_by_order, mixture
from _pictures import SHORT, band, clock, folder, spread, subplots
from _plays import TESTS, VALID, second_half, start, windows, works

import jaxnn as nn

SEEDS = 2 if SHORT else 3
TEXT = 20_000 if SHORT else 500_000  # characters for training, those before the work for validation
HELD = 2_000 if SHORT else 30_000  # characters of each of these works; all of them take as long as an epoch
LENGTH = 64  # of a window; gradients go no further back
BATCH = 8 if SHORT else 32
EPOCHS = 1 if SHORT else 4
WARM_UP = 5 if SHORT else 50  # steps in which the rate rises; it then falls to 0 along a cosine
MOST = 8  # symbols of the longest gram
TEMPERATURES = (0.5, 0.8, 1.0)
SAMPLE = 300  # characters
PROMPT = "\n\nDUKE.\n"
SHARES = np.arange(0.05, 1, 0.05)  # of the network in a mixture, chosen on the validation text
CONTEXT = 0.1  # least bits by which a network is below the frequencies of single symbols, so it uses the context
LEAST = 0.005 if SHORT else 0.03  # fraction of the n-gram model's bits that the LSTM mixed with it saves


def recurrent(cell: str, features: int, **how: Any) -> Any:
    return lambda symbols: nn.models.char_rnn(symbols, features=features, layers=1, embedding=48, cell=cell, **how)


# kind -> network of about 105 000 params for a number of symbols, and its rate
NETWORKS = {
    "LSTM": (recurrent("lstm", 128), 1.5e-2),
    "GRU": (recurrent("gru", 152), 1.5e-2),
    "GPT": (lambda symbols: nn.models.gpt(symbols, length=LENGTH, features=64, layers=2, heads=4), 4e-3),
}


def learn(kind: str, model: nn.Layer, train: Any, valid: Any, out: Path) -> nn.Run:
    """The runs of all seeds at once; an interrupted one continues from the folder."""
    steps = EPOCHS * (len(train[0]) // BATCH)
    schedule = optax.warmup_cosine_decay_schedule(0.0, NETWORKS[kind][1], WARM_UP, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), nn.adam(schedule))
    trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, optimizer)
    keys, folder = jax.random.split(jax.random.key(0), SEEDS), None if SHORT else out / f"characters-{kind}"
    return nn.drive(trainer, keys, train, valid, epochs=EPOCHS, batch_size=BATCH, checkpoint=folder)


def bits_of(model: nn.Layer, params: dict, text: np.ndarray) -> np.ndarray:
    """Bits of the characters of `second_half`."""
    x, y = windows(text, LENGTH, LENGTH // 2)
    losses = nn.losses.softmax_cross_entropy(nn.predict(model, params, {}, x), y)
    return np.asarray(losses)[:, LENGTH // 2 :] / np.log(2)


def picture(path: Path, orders: dict[str, np.ndarray], curves: dict, alone: dict, both: dict, texts: dict) -> None:
    """Bits of the n-gram models by order and of the networks; their bits while they learn; samples."""
    figure, axes = subplots(1, 3, (16, 5.5), width_ratios=(1, 1, 1.2))
    colours = dict(zip(alone, ("tab:red", "tab:orange", "tab:blue"), strict=True))
    for (label, bits), style in zip(orders.items(), ("-", ":"), strict=True):
        axes[0].plot(range(1, MOST + 1), bits, style, color="0.3", marker="o", ms=4, label=label)
    for kind, colour in colours.items():
        axes[0].axhline(alone[kind].mean(), color=colour, ls="--", label=f"{kind} alone")
        axes[0].axhline(both[kind].mean(), color=colour, label=f"{kind} and n-grams")
    axes[0].set(xlabel="symbols of the longest gram", ylabel="bits per character of held-out works", ylim=(2, 4))
    for kind, bits in curves.items():
        band(axes[1], np.arange(1, EPOCHS + 1) * TEXT / 1e6, bits, kind, colours[kind], marker="o", ms=4)
    axes[1].set(xlabel="million characters seen", ylabel="bits per character of the validation text")
    for axis in axes[:2]:
        axis.grid(alpha=0.3)
        axis.legend(fontsize=9, loc="upper right")
    axes[2].axis("off")
    for k, (temperature, text) in enumerate(texts.items()):
        top, lines = 1 - k / len(texts), [line[:70] for line in text.splitlines() if line.strip()]
        axes[2].text(0, top, f"LSTM at temperature {temperature}", va="top", weight="bold", fontsize=9)
        axes[2].text(0, top - 0.04, "\n".join(lines[:9]), va="top", family="monospace", fontsize=8)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Counts, trains, judges, samples, and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    nn.reuse_memory()  # before the first computation: keeps the memory of intermediate values
    out, took = folder(), clock()
    text, codes, classes = works()
    symbols = len(classes)
    first, *starts = (start(text, title) for title in (VALID, *TESTS))
    train, valid = codes[first - TEXT : first], codes[first : first + HELD]
    test = np.concatenate([codes[i : i + HELD] for i in starts])

    grams_valid, grams_test = (bits_by_order(train, held, symbols, MOST) for held in (valid, test))
    order = int(grams_valid.mean(1).argmin())  # of the longest gram, less 1
    grams_valid, of_test = (second_half(grams[order], LENGTH) for grams in (grams_valid, grams_test))
    baseline = of_test.mean()
    more = bits_by_order(codes[first - 9 * TEXT : first], test, symbols, MOST)
    orders = {"n-grams": grams_test.mean(1), "n-grams of nine times the text": more.mean(1)}
    print(f"{'n-grams':20}{baseline:.3f} bits per character, by {order + 1} symbols at most")
    print(f"{'':20}{more[order].mean():.3f} with nine times the text", flush=True)

    curves, alone, both, writer = {}, {}, {}, {}
    for kind, (network, _) in NETWORKS.items():
        spent, model = clock(), network(symbols)
        late = np.broadcast_to(np.arange(LENGTH) >= LENGTH // 2, (len(grams_valid), LENGTH))
        run = learn(kind, model, windows(train, LENGTH, LENGTH), (*windows(valid, LENGTH, LENGTH // 2), late), out)
        curves[kind] = np.asarray(run.history["valid"]["loss"]) / np.log(2)
        scores = []
        for params in (jax.tree.map(lambda a, i=i: a[i], run.ts.params) for i in range(SEEDS)):
            writer.setdefault(kind, params)
            of_valid, own = bits_of(model, params, valid), bits_of(model, params, test)
            share = min(SHARES, key=lambda s: mixture(of_valid, grams_valid, s).mean())
            scores.append((own.mean(), mixture(own, of_test, share).mean()))
        alone[kind], both[kind] = np.array(scores).T

        size = sum(leaf.size for leaf in jax.tree.leaves(writer[kind]))
        for name, bits in ((kind, alone[kind]), (f"{kind} and n-grams", both[kind])):
            below = spread(1 - bits / baseline)
            print(f"{name:20}{bits.mean():.3f} ± {bits.std(ddof=1):.3f} bits per character, {below} % below n-grams")
        print(f"{'':20}{size:,} params, {spent()}", flush=True)

    prompt = nn.data.encode(np.array(list(PROMPT)), classes)[0][None]
    model, texts = recurrent("lstm", 128, cached=True)(symbols), {}
    for temperature in TEMPERATURES:
        how = {"temperature": temperature}
        drawn = nn.generate(model, writer["LSTM"], {}, prompt, jax.random.key(1), SAMPLE, **how)
        texts[temperature] = PROMPT + "".join(nn.data.decode(drawn.x[0], classes).tolist())
        print(f"\n--- temperature {temperature}{texts[temperature]}")
    picture(out / "characters.png", orders, curves, alone, both, texts)
    print(f"\n{took()}; the picture is {out / 'characters.png'}")
    for kind, bits in alone.items():
        assert bits.mean() < orders["n-grams"][0] - CONTEXT, f"{kind} makes no use of the context"
    assert both["LSTM"].mean() < (1 - LEAST) * baseline, "below the figure that this example stands for"


if __name__ == "__main__":
    main()
