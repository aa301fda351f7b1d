"""Linear alignment: retrieval for encoders without a text tower, by one method for all encoders.

Ridge regression maps pooled audio embeddings to bag-of-words vectors of captions; queries and candidates are compared
by the cosine between the predicted and the actual vector. The text side learns only inverse document frequencies, so
encoders differ in their audio side alone.
"""

import collections
import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from alp_jax.data.text.normalise import normalise
from alp_jax.evaluation.retrieval import ranking
from alp_jax.evaluation.stats.metrics import standardise

MAX_WORDS, MIN_CLIPS = 2048, 2  # size of the vocabulary; training clips in which a word must occur
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


def ridge(x_ND: np.ndarray, y_NV: np.ndarray, strength: float) -> np.ndarray:
    """w_DV of the regression of centred ``y`` on standardised ``x``."""
    # In float64: forming the Gram matrix squares the condition number, and in float32 the weakest ridges would be lost
    # in its rounding. The ridge grows with the clips, as the matrix does, so that a strength selected without the
    # held-out clips fits all of them.
    gram_DD = x_ND.T.astype(np.float64) @ x_ND + strength * len(x_ND) / 10 * np.eye(x_ND.shape[1])
    return np.linalg.solve(gram_DD, x_ND.T @ y_NV).astype(np.float32)


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
    y_NV = np.stack([np.mean([words.encode(text) for text in texts], axis=0) for texts in train_captions])
    centre_V = y_NV.mean(0)
    y_NV = y_NV - centre_V
    train_x, test_x = standardise(train_x, test_x)
    held_gallery, held_texts = ranking.gallery([train_captions[i] for i in np.flatnonzero(held)], normalise)
    held_MV = np.stack([words.encode(text) for text in held_texts]) - centre_V
    scores = []
    for strength in RIDGES:
        predicted = train_x[held] @ ridge(train_x[~held], y_NV[~held], strength)
        directions = ranking.evaluate(predicted, held_MV, held_gallery)
        scores.append(float(np.mean([(direction.rank_Q <= 10).mean() for direction in directions.values()])))
    # a tie goes to the strongest ridge; the map is then fitted again to all training clips
    best = max(range(len(RIDGES)), key=lambda i: (scores[i], RIDGES[i]))
    text_MV = np.stack([words.encode(text) for text in test_captions]) - centre_V
    audio_AV = test_x @ ridge(train_x, y_NV, RIDGES[best])
    return audio_AV, text_MV, {"ridge": RIDGES[best], "selection_score": scores[best], "words": len(words.column)}
