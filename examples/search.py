"""Search by meaning: questions in today's English, answered by lines of Shakespeare, with the vectors of MiniLM.

    python examples/search.py [folder for the picture, by default out] [--short]

MiniLM, a transformer trained on pairs of sentences with its published weights, turns each of 11 789 lines of six plays
into a vector, the mean over its tokens. `nn.retrieval.index` holds the vectors and is saved and loaded as a file;
`nn.retrieval.nearest` finds the lines of largest cosine. Each of 35 known lines was rephrased, mostly in words that it
does not have, before any search. The other questions quote about three words of the same lines. Nothing is trained, so
there are no seeds. The baseline is scikit-learn's TF-IDF, of words and of pieces of three to five letters. Fraction of
the questions whose line is among the first k, and mean of 1 / rank:

                                    k = 1         5        50      1 / rank
    by meaning
    MiniLM                          17.1%     28.6%     60.0%         0.240
    TF-IDF, words                    0.0%      0.0%     14.3%         0.014
    TF-IDF, pieces of words          0.0%      2.9%      8.6%         0.021
    by a quotation
    MiniLM                          71.4%     88.6%    100.0%         0.786
    TF-IDF, words                   85.7%     97.1%    100.0%         0.899
    TF-IDF, pieces of words         80.0%     91.4%    100.0%         0.857

Words that do not occur cannot match, so TF-IDF finds almost nothing by meaning. For quotations it is better and costs
nothing: search engines combine both. MiniLM answers "Is it better to live or to die?" with "life, living, all is
death's", and ranks "To be, or not to be" 49th. It ranks lines with old words lowest, such as "wherefore art thou
Romeo?" and "it was Greek to me". The vectors of the lines take most of about 90 s of processors.

Wang et al., MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers, 2020,
arXiv:2002.10957.
Reimers, Gurevych, Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks, 2019, arXiv:1908.10084.
"""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from _pictures import SHORT, clock, folder, subplots
from _questions import QUESTIONS
from sklearn.feature_extraction.text import TfidfVectorizer

import jaxnn as nn

nn.reuse_memory()

WORKS = ("MACBETH",) if SHORT else ("HAMLET", "MACBETH", "ROMEO", "THE MERCHANT", "JULIUS CAESAR", "AS YOU LIKE")
LINES = 500 if SHORT else None  # the first of them
WORDS = 4, 40  # of a line, which ends at . ? ! ; or :
WIDTHS = 16, 32, 64  # tokens; a batch is as wide as the next of these, so that three programs are compiled
BATCH = 64
SHOWN, FURTHEST = 5, 50  # lines that are printed, and ranks in the picture
TFIDF: dict[str, dict] = {"words": {}, "pieces of words": {"analyzer": "char_wb", "ngram_range": (3, 5)}}
LEAST_GAIN = 0.0 if SHORT else 0.15  # of recall@5 over the better TF-IDF
ASKED = "Is it better to live or to die?", "Is that a weapon I see floating in front of me?", "Be honest with yourself."


def lines() -> list[str]:
    """Lines of the works, without names of speakers and stage directions."""
    shakespeare = nn.data.load("shakespeare")
    text = "".join(nn.data.decode(shakespeare.train[0], shakespeare.classes).tolist())
    parts = re.split(r"\n([^\n]+)\n+by William Shakespeare\n", text)[1:]
    works = [body for title, body in zip(parts[::2], parts[1::2], strict=True) if title.startswith(WORKS)]
    spoken = re.sub(r"\[[^\]]*\]", " ", "\n".join(works))
    spoken = re.sub(r"(?<=\n\n)[A-Z][\w ,.']{0,30}\.\s*\n", "", spoken)  # names of speakers
    found = [" ".join(line.replace("--", " ").split()).strip(" '\"") for line in re.split(r"(?<=[.?!;:])", spoken)]
    return list(dict.fromkeys(line for line in found if WORDS[0] <= len(line.split()) <= WORDS[1]))


def tokens(line: str, numbers: dict[str, int]) -> list[int]:
    """WordPiece: the longest pieces of the vocabulary that make up each word, from its left; [UNK] without any."""
    found = ["[CLS]"]
    for word in re.findall(r"\w+|[^\w\s]", line.lower()):
        pieces, start = [], 0
        while start < len(word):
            ends = range(len(word), start, -1)
            fits = (piece for end in ends if (piece := "##" * (start > 0) + word[start:end]) in numbers)
            piece = next(fits, None)
            if piece is None:
                pieces = ["[UNK]"]
                break
            pieces.append(piece)
            start += len(piece.removeprefix("##"))
        found += pieces
    return [numbers[piece] for piece in [*found[: WIDTHS[-1] - 1], "[SEP]"]]


def vectors(texts: list[str]) -> np.ndarray:
    """MiniLM's vectors of texts, [n, 384]: means over the tokens."""
    found, model = nn.interop.fetch("minilm"), nn.models.bert(features=384, layers=6, heads=12)
    params, state = nn.interop.load(model, jnp.zeros((1, 4), jnp.int32), found.path, names=found.names)

    @jax.jit
    def means(params: dict, x: nn.Padded) -> jax.Array:
        y = model.apply(params, state, x)[0]["x"]
        return jnp.sum(y.x * y.mask[..., None], 1) / y.lengths[:, None].astype(jnp.float32)

    numbers = {token: i for i, token in enumerate(found.classes)}
    rows = [tokens(text, numbers) for text in texts]
    order, made = np.argsort([len(row) for row in rows], kind="stable"), np.zeros((len(rows), 384), np.float32)
    for start in range(0, len(rows), BATCH):
        at = order[start : start + BATCH]
        width = next(width for width in WIDTHS if width >= len(rows[at[-1]]))
        x, lengths = np.zeros((BATCH, width), np.int32), np.ones(BATCH, np.int32)
        for i, row in enumerate(rows[k] for k in at):
            x[i, : len(row)], lengths[i] = row, len(row)
        made[at] = means(params, nn.Padded(x, lengths))[: len(at)]
    return made


def ranks(near: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Rank of the answer to each question, from 1, by similarities [questions, lines]."""
    return 1 + np.argmax(np.argsort(-near, axis=1, kind="stable") == answers[:, None], axis=1)


def report(name: str, rank: np.ndarray) -> float:
    """Prints recall at 1, 5 and 50 and the mean average precision, which is that of 1 / rank; returns recall at 5."""
    hits = jnp.asarray(rank[:, None] == np.arange(1, 1 + rank.max()))
    mean = nn.metrics.retrieval_average_precision(hits, jnp.ones(len(rank), jnp.int32))
    recall = [np.mean(rank <= k) for k in (1, SHOWN, FURTHEST)]
    print(f"{name:26}{''.join(f'{r:10.1%}' for r in recall)}{mean:14.3f}", flush=True)
    return float(recall[1])


def picture(path: Path, rank: dict[str, np.ndarray], asked: list[str]) -> None:
    """Recall by the number of lines shown, and the rank of each answer by meaning and by words."""
    figure, (left, right) = subplots(1, 2, (15, 8), width_ratios=(1, 1.8))
    for name, r in rank.items():
        left.plot(np.arange(1, FURTHEST + 1), [100 * np.mean(r <= k) for k in range(1, FURTHEST + 1)], label=name)
    left.axvline(SHOWN, color="0.8", lw=1)
    left.set(xscale="log", xlabel="lines shown", ylabel="questions answered, %", ylim=(0, 100))
    left.set_xticks([1, 5, 10, 50], labels=["1", "5", "10", "50"])
    left.minorticks_off()
    left.grid(alpha=0.3)
    left.legend(loc="upper left")
    (_, ours), (_, theirs) = list(rank.items())[:2]
    order = np.lexsort((theirs, ours))[::-1]
    for place, i in enumerate(order):
        right.plot([ours[i], theirs[i]], [place, place], color="0.85", lw=1, zorder=0)
    for r, colour, name in ((ours, "C0", "MiniLM"), (theirs, "C1", "TF-IDF of words")):
        right.scatter(r[order], np.arange(len(order)), color=colour, s=22, label=name)
    right.axvline(SHOWN + 0.5, color="0.8", lw=1)
    right.set(xscale="log", xlabel="rank of the answer among all lines", ylim=(-0.7, len(order) - 0.3))
    right.set_yticks(range(len(order)), [asked[i] for i in order], fontsize=9)
    right.legend(loc="lower left")
    figure.savefig(path, dpi=90)


def main() -> None:
    """Makes the vectors and the index, compares with TF-IDF, prints answers and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    out, took = folder(), clock()
    text = lines()[:LINES]
    found = {part: [i for i, line in enumerate(text) if part in line] for part in QUESTIONS}
    parts = [part for part, at in found.items() if at]
    assert SHORT or len(parts) == len(QUESTIONS), "an answer is not in the text"
    asked, at, n = [QUESTIONS[part] for part in parts], np.array([found[part][0] for part in parts]), len(text)
    made = vectors(text + asked + parts)
    nn.save(out / "lines.safetensors", nn.retrieval.index(made[:n]))
    print(f"{n} lines, {len(asked)} questions; vectors and index in {took()}")

    unit = made / np.linalg.norm(made, axis=1, keepdims=True)
    near = {"MiniLM": unit[n:] @ unit[:n].T}
    for name, how in TFIDF.items():
        peer = TfidfVectorizer(sublinear_tf=True, **how).fit(text)
        near[f"TF-IDF, {name}"] = (peer.transform(asked + parts) @ peer.transform(text).T).toarray()
    print(f"\n{'':26}{'recall@1':>10}{'@5':>10}{'@50':>10}{'mean of 1/rank':>16}\nby meaning")
    rank = {name: ranks(of[: len(asked)], at) for name, of in near.items()}
    recall = {name: report(name, r) for name, r in rank.items()}
    print("by a quotation")
    for name, of in near.items():
        report(name, ranks(of[len(asked) :], at))

    index = nn.load(out / "lines.safetensors")
    for question in [q for q in ASKED if q in asked] or asked[:1]:
        nearest = nn.retrieval.nearest(index, made[n + asked.index(question)][None], SHOWN)
        print(f"\n{question}")
        for value, i in zip(nearest.values[0].tolist(), nearest.indices[0].tolist(), strict=True):
            print(f"  {value:.2f}  {text[i]}")
    picture(out / "search.png", rank, asked)
    print(f"\n{took()}; the picture is {out / 'search.png'}")
    ours, *theirs = recall.values()
    assert ours >= max(theirs) + LEAST_GAIN, "below the lead over TF-IDF that this example stands for"


if __name__ == "__main__":
    main()
