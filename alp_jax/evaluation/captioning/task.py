"""Captioning as a task: the test clips of a data set, each with all its reference captions."""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from alp_jax.evaluation.captioning.scores import ORDER, bleu, bleu_counts, cider_d, rouge_l, tells_apart
from alp_jax.evaluation.captioning.spice_free import extra_scores
from alp_jax.evaluation.captioning.tokens import tokenize
from alp_jax.evaluation.measured import Measured, RetrievalTask
from alp_jax.evaluation.probes.tasks import Table
from alp_jax.evaluation.stats import bootstrap, metrics

NAME = "captioning"
DECODER = "decoder"  # the pooling that is none: captions by the decoder that was trained with the encoder
SAMPLES = 10  # generated captions that a result shows


@dataclasses.dataclass(frozen=True)
class CaptionTask:
    """The clips of ``search``, which are split as for retrieval; ids and references of its test clips."""

    search: RetrievalTask
    ids: list[str]
    references: list[tuple[str, ...]]

    @property
    def train_row(self) -> np.ndarray:
        return self.search.train_row

    @property
    def test_row(self) -> np.ndarray:
        return self.search.test_row

    @property
    def train_groups(self) -> tuple[str, ...]:
        return self.search.train_groups

    @property
    def test_groups(self) -> tuple[str, ...]:
        return self.search.test_groups

    @property
    def selection(self) -> str:
        return self.search.selection

    @property
    def split_hash(self) -> str:
        return self.search.split_hash


def caption_task(search: RetrievalTask | None, table: Table) -> CaptionTask | None:
    """None when there are too few captioned clips for retrieval either."""
    if search is None:
        return None
    rows = search.test_row
    return CaptionTask(search, [table.id[row] for row in rows], [table.captions[row] for row in rows])


def judge_captions(task: CaptionTask, captions: Sequence[str]) -> Measured:
    """CIDEr-D, ROUGE-L and BLEU of one caption per test clip; what cannot be computed here is named with the reason.

    References without a word (only punctuation) do not count.
    """
    said = [tokenize(caption) for caption in captions]
    wanted = [[words for words in map(tokenize, several) if words] or [[""]] for several in task.references]
    drawn = bootstrap.Resamples(task.test_groups)
    skipped, scored = {}, {"rouge_l": rouge_l(said, wanted)}
    if tells_apart(wanted):
        scored = {"cider_d": cider_d(said, wanted)} | scored
    else:
        skipped["cider_d"] = (
            "not computable: every word of the references is in those of all clips, so all weigh nothing"
        )
    extra = extra_scores(captions, task.references)
    skipped |= {name: reason for name, reason in extra.items() if isinstance(reason, str)}
    scored |= {name: score_N for name, score_N in extra.items() if name not in skipped}
    values = bootstrap.entries({name: [metrics.mean(score_N)] for name, score_N in scored.items()}, drawn, {})
    counts = bleu_counts(said, wanted)
    for order in range(ORDER):
        name = f"bleu_{order + 1}"
        values[name] = bootstrap.entry(name, lambda w, order=order: bleu(counts, w)[:, order], drawn)
    shown = list(zip(task.ids, captions, task.references, strict=True))[:SAMPLES]
    samples = [{"id": clip, "caption": caption, "references": list(meant)} for clip, caption, meant in shown]
    return Measured(values, drawn.unit, {"skipped": skipped, "samples": samples})


def nearest_captions(task: CaptionTask, train_x: np.ndarray, test_x: np.ndarray) -> list[str]:
    """A caption of the training clip whose vector is nearest, each dimension scaled to unit deviation: the floor."""
    scale = np.maximum(train_x.std(0), 1e-6)
    train, test = train_x / scale, test_x / scale
    distance = (train**2).sum(1) - 2 * test @ train.T
    return [_plainest(task.search.train_captions[i]) for i in distance.argmin(1)]


def _plainest(captions: Sequence[str]) -> str:
    """The caption that shares most words with the others of its clip; the first of equals."""
    words = [set(tokenize(caption)) for caption in captions]
    counted = collections.Counter(word for some in words for word in some)
    shared = [sum(counted[word] for word in some) / max(len(some), 1) for some in words]
    return captions[int(np.argmax(shared))]
