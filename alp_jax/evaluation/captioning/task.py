"""Scores of captions against all references of their clips, and the captions of the floor, which need no network."""

import collections
from collections.abc import Sequence

import numpy as np

from alp_jax.evaluation.captioning.scores import ORDER, bleu, bleu_counts, cider_d, rouge_l, tells_apart
from alp_jax.evaluation.captioning.spice_free import extra_scores
from alp_jax.evaluation.captioning.tokens import tokenize
from alp_jax.evaluation.measured import Measured, from_estimates
from alp_jax.evaluation.retrieval.task import CaptionedClips
from alp_jax.evaluation.stats import bootstrap, metrics

CELLS = 1 << 26  # most distances in memory at a time (256 MB), unless a single clip has more
SAMPLES = 10  # generated captions that a result shows


def score_captions(clips: CaptionedClips, captions: Sequence[str], selected: dict) -> Measured:
    """ROUGE-L, CIDEr-D and BLEU of one caption per test clip; ``skipped`` names what cannot be computed, and why.

    References without a word (only punctuation) do not count. Chance of ROUGE-L is what the captions of other clips
    reach: each clip is given the first reference of the next one.
    """
    words = [tokenize(caption) for caption in captions]
    references = [[some for some in map(tokenize, several) if some] or [[""]] for several in clips.references]
    drawn = bootstrap.Resamples(clips.test_groups)
    skipped, scored = {}, {"rouge_l": rouge_l(words, references)}
    if tells_apart(references):
        scored["cider_d"] = cider_d(words, references)
    else:
        skipped["cider_d"] = (
            "not computable: every word in the references occurs in those of all clips, so none has any weight"
        )
    extra = extra_scores(captions, clips.references)
    skipped |= {name: reason for name, reason in extra.items() if isinstance(reason, str)}
    scored |= {name: score_N for name, score_N in extra.items() if name not in skipped}
    shown = list(zip(clips.test_ids, captions, clips.references, strict=True))[:SAMPLES]
    samples = [{"id": clip, "caption": caption, "references": list(several)} for clip, caption, several in shown]
    estimates = {name: [metrics.mean(score_N)] for name, score_N in scored.items()}
    of_others = [several[0] for several in (*references[1:], *references[:1])]
    chance = {"rouge_l": float(rouge_l(of_others, references).mean())}
    notes = {"skipped": skipped, "samples": samples}
    measured = from_estimates(estimates, drawn, chance, notes=notes, selected=selected)
    counts = bleu_counts(words, references)
    for order in range(ORDER):
        name = f"bleu_{order + 1}"
        # BLEU belongs to a whole corpus and clips have none of their own, so every resample is scored
        measured.values[name] = bootstrap.entry(name, lambda w, order=order: bleu(counts, w)[:, order], drawn)
    return measured


def nearest_captions(clips: CaptionedClips, train_x: np.ndarray, test_x: np.ndarray) -> list[str]:
    """The floor: a caption of the nearest training clip, with every dimension scaled to unit deviation."""
    scale = np.maximum(train_x.std(0), 1e-6)
    train, test = train_x / scale, test_x / scale
    square_N = (train**2).sum(1)
    rows = max(1, CELLS // len(train))
    nearest = [(square_N - 2 * test[first : first + rows] @ train.T).argmin(1) for first in range(0, len(test), rows)]
    return [_plainest(clips.train_captions[i]) for i in np.concatenate(nearest)]


def _plainest(captions: Sequence[str]) -> str:
    """The caption whose words are most common among the captions of its clip; the first of equals."""
    words = [set(tokenize(caption)) for caption in captions]
    counted = collections.Counter(word for some in words for word in some)
    shared = [sum(counted[word] for word in some) / max(len(some), 1) for some in words]
    return captions[int(np.argmax(shared))]
