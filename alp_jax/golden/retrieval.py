"""Cases of kind ``retrieval``: ranks of paired embeddings and of several captions per clip."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from alp_jax.evaluation.retrieval.ranking import CUTOFFS, Direction, Gallery, evaluate
from alp_jax.golden.case import Case
from alp_jax.golden.compare import Line, compare

PERCENT = 1e-4  # the reference computes percentages in float32


def check(case: Case) -> Iterator[Line]:
    """Recall, median and mean rank and the reference's mAP10, both ways, for ``audio``/``text`` and ``multi``."""
    io, line = case.tensors(), partial(compare, case.name)
    captions = int(case.config["captions_per_audio"])
    found = {
        **_both_ways("", io["audio"], io["text"], 1),
        **_both_ways("multi_", io["multi.audio_unique"], io["multi.text"], captions),
    }
    for name, metrics in case.config["metrics"].items():
        for metric, expected in metrics.items():
            value = found.get(name, {}).get(metric, np.zeros(0))
            yield line(f"{name}.{metric}", value, expected, PERCENT)


def _both_ways(prefix: str, audio_AE: np.ndarray, text_TE: np.ndarray, captions: int) -> dict[str, dict[str, float]]:
    owner_T = np.repeat(np.arange(len(audio_AE)), captions)
    both = evaluate(audio_AE, text_TE, Gallery(owner_T, np.arange(len(text_TE)), len(audio_AE)))
    return {f"{prefix}a2t": _metrics(both["audio_to_text"]), f"{prefix}t2a": _metrics(both["text_to_audio"])}


def _metrics(found: Direction) -> dict[str, float]:
    recalls = {f"r{cutoff}": 100 * np.mean(found.rank_Q <= cutoff) for cutoff in CUTOFFS}
    lower_median = np.sort(found.rank_Q)[(len(found.rank_Q) - 1) // 2]  # as torch.median
    precision = 100 * float(np.nanmean(found.reference_Q))
    return {**recalls, "medr": lower_median, "meanr": np.mean(found.rank_Q), "mAP10": precision}
