"""METEOR, SPICE and FENSE: computed if their requirements are installed, else left out with the reason, never zero."""

from collections.abc import Sequence

import numpy as np

from alp_jax.evaluation.captioning.tokens import tokenize


def extra_scores(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, np.ndarray | str]:
    """Name -> score_N of one caption per clip against its references, or the reason why there is none."""
    scores: dict[str, np.ndarray | str] = {"spice": "needs Java and the scene graph parser of Stanford CoreNLP"}
    for name, score in (("meteor_nltk", _meteor), ("fense", _fense)):
        try:
            scores[name] = np.asarray(score(captions, references), np.float64)
        except ImportError as error:
            scores[name] = f"needs the package {error.name}: pip install {error.name}"
        except (LookupError, OSError) as error:  # word lists or weights that the package downloads itself
            scores[name] = f"needs data that is not here: {str(error).strip().splitlines()[0]}"
    return scores


def _meteor(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """METEOR by nltk. Its alignment differs from that of METEOR 1.5 (Java), so the metric has a name of its own."""
    from nltk.translate.meteor_score import meteor_score

    return [
        meteor_score([tokenize(reference) for reference in several], tokenize(caption))
        for caption, several in zip(captions, references, strict=True)
    ]


def _fense(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """By its authors' package (Zhou et al. 2022, "Can Audio Captions Be Evaluated with Image Caption Metrics?")."""
    from fense.evaluator import Evaluator

    evaluator = Evaluator(
        device="cpu", sbert_model="paraphrase-TinyBERT-L6-v2", echecker_model="echecker_clotho_audiocaps_base"
    )
    return [evaluator.sentence_score(c, list(several)) for c, several in zip(captions, references, strict=True)]
