"""Linear alignment: retrieval for encoders without a text tower, by one method for all encoders.

Ridge regression maps pooled audio embeddings to bag-of-words vectors of captions; queries and candidates are compared
by the cosine between the predicted and the actual vector. The text side learns only inverse document frequencies, so
encoders differ in their audio side alone.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from alp_jax.data.text.normalise import normalise
from alp_jax.evaluation.retrieval import ranking
from alp_jax.evaluation.stats.metrics import standardise

MAX_WORDS, MIN_CLIPS = 2048, 2  # size of the vocabulary; training clips in which a word must occur
CHUNK, MOST_HELD = 8192, 5000  # clips whose word vectors are in memory at a time; held-out clips that are ranked
RIDGES = tuple(10.0**k for k in range(-2, 4))  # in tenths of the mean eigenvalue of the features' covariance: 1


@dataclasses.dataclass(frozen=True)
class BagOfWords:
    """Words of captions with their weights ``log((1 + clips) / clips with the word)``."""

    column: dict[str, int]
    weight_V: np.ndarray

    @classmethod
    def fit(cls, captions_of: Sequence[Sequence[str]]) -> "BagOfWords":
        """The vocabulary of the captions of every clip; words of equal frequency are taken in alphabetical order."""
        counts = collections.Counter(word for texts in captions_of for word in set(normalise(" ".join(texts)).split()))
        frequent = sorted((w for w, n in counts.items() if n >= MIN_CLIPS), key=lambda w: (-counts[w], w))[:MAX_WORDS]
        weights = [math.log((1 + len(captions_of)) / counts[word]) for word in frequent]
        return cls({word: i for i, word in enumerate(frequent)}, np.array(weights, np.float32))

    def encode(self, text: str) -> np.ndarray:
        """float32[V] of unit length; all zeros if no word is known."""
        vector = np.zeros(len(self.weight_V), np.float32)
        for word in set(normalise(text).split()):
            if word in self.column:
                vector[self.column[word]] = self.weight_V[self.column[word]]
        return vector / max(float(np.linalg.norm(vector)), 1e-12)


@dataclasses.dataclass(frozen=True)
class Sums:
    """What ridge regressions need of clips: their number, x^T x (float64[D,D]) and x^T y (float32[D,V])."""

    clips: int
    gram_DD: np.ndarray
    cross_DV: np.ndarray

    @classmethod
    def of(cls, x_ND: np.ndarray, y_of: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> "Sums":
        """Of ``rows``; the word vectors ``y_of(some rows)`` of CHUNK clips are in memory at a time."""
        gram_DD, cross_DV = 0.0, 0.0
        for first in range(0, len(rows), CHUNK):
            some = rows[first : first + CHUNK]
            # In float64: forming the Gram matrix squares the condition number, and in float32 the weakest ridges would
            # be lost in its rounding.
            gram_DD = gram_DD + x_ND[some].T.astype(np.float64) @ x_ND[some]
            cross_DV = cross_DV + x_ND[some].T @ y_of(some)
        return cls(len(rows), np.asarray(gram_DD), np.asarray(cross_DV))


def ridge(sums: Sums, strength: float) -> np.ndarray:
    """w_DV of the regression of centred ``y`` on standardised ``x``."""
    # The ridge grows with the clips, as the matrix does, so that a strength selected without the held-out clips fits
    # all of them.
    gram_DD = sums.gram_DD + strength * sums.clips / 10 * np.eye(len(sums.gram_DD))
    return np.linalg.solve(gram_DD, sums.cross_DV).astype(np.float32)


def align(
    train_x: np.ndarray,
    train_captions: Sequence[Sequence[str]],
    held: np.ndarray,
    test_x: np.ndarray,
    test_captions: Sequence[str],
) -> tuple[np.ndarray, np.ndarray, dict]:
    """Fits the map to training clips; the ridge that retrieves held-out training clips best is used.

    Args:
      train_x, test_x: float32[N,D] and float32[A,D], pooled audio embeddings.
      train_captions: the captions of each training clip.
      held: bool[N], training clips that select the ridge.
      test_captions: M captions.

    Returns:
      audio_AV and text_MV, to be compared by cosine, and what was selected.
    """
    words = BagOfWords.fit(train_captions)  # held-out clips too: all ridges are compared with the same text vectors
    every = np.arange(len(train_captions))

    def words_of(some: np.ndarray) -> np.ndarray:
        return np.stack([np.mean([words.encode(text) for text in train_captions[i]], axis=0) for i in some])

    centre_V = sum(words_of(some).sum(0) for some in np.array_split(every, -(-len(every) // CHUNK))) / len(every)
    train_x, test_x = standardise(train_x, test_x)
    # evenly spaced, as every ridge ranks all of these clips for all of their captions
    chosen = np.flatnonzero(held)
    chosen = chosen[:: -(-len(chosen) // MOST_HELD)]
    held_gallery, held_texts = ranking.gallery([train_captions[i] for i in chosen], normalise)
    held_MV = np.stack([words.encode(text) for text in held_texts]) - centre_V
    fitted, whole = (Sums.of(train_x, lambda some: words_of(some) - centre_V, rows) for rows in (every[~held], every))
    scores = []
    for strength in RIDGES:
        directions = ranking.evaluate(train_x[chosen] @ ridge(fitted, strength), held_MV, held_gallery)
        scores.append(float(np.mean([(direction.rank_Q <= 10).mean() for direction in directions.values()])))
    # a tie goes to the strongest ridge; the map is then fitted again to all training clips
    best = max(range(len(RIDGES)), key=lambda i: (scores[i], RIDGES[i]))
    text_MV = np.stack([words.encode(text) for text in test_captions]) - centre_V
    audio_AV = test_x @ ridge(whole, RIDGES[best])
    return audio_AV, text_MV, {"ridge": RIDGES[best], "selection_score": scores[best], "words": len(words.column)}
