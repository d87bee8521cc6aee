"""Words of Shakespeare and their consonants as numbers, and the words restored by the frequencies of pairs."""

import re
from collections import Counter
from typing import NamedTuple

import numpy as np

OTHER, START = 0, 1  # numbers of all words that are not frequent, and of the step before the first word
LENGTH = 12  # words of a window

Windows = tuple[dict[str, np.ndarray], np.ndarray]


class Words(NamedTuple):
    """The words to choose from.

    Attributes:
      names: the words by their numbers, the most frequent first; OTHER and START precede them.
      choices: consonants -> numbers of the words that have them; "?" are the consonants of no such word.
    """

    names: list[str]
    choices: dict[str, list[int]]


def consonants(word: str) -> str:
    """The word without vowels."""
    return re.sub("[aeiou]", "", word)


def split(text: str) -> list[str]:
    """Words in small letters, without the names of the speakers, which are in capitals."""
    return re.findall("[a-z]+", re.sub(r"\b[A-Z]{2,}\b", "", text).replace("'", "").lower())


def frequent(text: list[str], many: int) -> Words:
    """The most frequent words of a text."""
    names = ["?", "", *(word for word, _ in Counter(text).most_common(many))]
    choices = {"?": [OTHER]}
    for number, name in list(enumerate(names))[2:]:
        choices.setdefault(consonants(name), []).append(number)
    return Words(names, choices)


def windows(text: list[str], words: Words) -> Windows:
    """Consonants and the words so far as numbers, each [n, LENGTH], and the words [n, LENGTH]."""
    text = text[: len(text) // LENGTH * LENGTH]
    of_word, of_consonants = ({s: i for i, s in enumerate(known)} for known in words)
    y = np.array([of_word.get(word, OTHER) for word in text], np.int32).reshape(-1, LENGTH)
    source = np.array([of_consonants.get(consonants(word), OTHER) for word in text], np.int32).reshape(-1, LENGTH)
    return {"source": source, "x": np.pad(y[:, :-1], ((0, 0), (1, 0)), constant_values=START)}, y


def by_pairs(source: np.ndarray, train: Windows, words: Words, smooth: float) -> np.ndarray:
    """The most probable words of each window by the frequencies of pairs of words in the training text (Viterbi).

    Args:
      source: consonants [n, LENGTH].
      train: windows of the training text.
      words: the words to choose from.
      smooth: weight of the frequencies of single words in those of pairs, between 0 and 1.
    """
    before, word = train[0]["x"].ravel().tolist(), train[1].ravel().tolist()
    pairs, first, single = Counter(zip(before, word, strict=True)), Counter(before), Counter(word)
    choices, found = list(words.choices.values()), []

    def cost(v: int, w: int) -> float:
        of_pair = pairs[v, w] / max(first[v], 1)
        return -float(np.log((1 - smooth) * of_pair + smooth * single[w] / len(word)))

    for window in source:
        best: dict[int, tuple[float, list[int]]] = {START: (0.0, [])}
        for s in window:
            best = {w: min((c + cost(v, w), [*path, w]) for v, (c, path) in best.items()) for w in choices[s]}
        found.append(min(best.values())[1])
    return np.array(found)
