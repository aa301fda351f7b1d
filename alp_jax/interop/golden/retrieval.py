"""Cases of kind ``retrieval``: ranks of paired embeddings and of several captions per clip."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from alp_jax.evaluation.retrieval import CUTOFFS, Gallery, evaluate
from alp_jax.interop.golden.case import Case
from alp_jax.interop.golden.compare import Line, compare

PERCENT = 1e-4  # the reference computes percentages in float32


def check(case: Case) -> Iterator[Line]:
    """Recall, median and mean rank and average precision at 10, both ways, for ``audio``/``text`` and ``multi``."""
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
    similarity_AT = _unit(audio_AE) @ _unit(text_TE).T
    right_AT = np.arange(len(audio_AE))[:, None] == owner_T
    return {
        f"{prefix}a2t": _metrics(both["audio_to_text"].rank_Q, similarity_AT, right_AT),
        f"{prefix}t2a": _metrics(both["text_to_audio"].rank_Q, similarity_AT.T, right_AT.T),
    }


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _metrics(rank_Q: np.ndarray, similarity_QN: np.ndarray, right_QN: np.ndarray) -> dict[str, float]:
    recalls = {f"r{cutoff}": 100 * np.mean(rank_Q <= cutoff) for cutoff in CUTOFFS}
    lower_median = np.sort(rank_Q)[(len(rank_Q) - 1) // 2]  # as torch.median
    precision = reference_precision(similarity_QN, right_QN)
    return {**recalls, "medr": lower_median, "meanr": np.mean(rank_Q), "mAP10": precision}


def reference_precision(similarity_QN: np.ndarray, right_QN: np.ndarray) -> float:
    """The reference's mAP10 in percent: average precision without a cutoff, over the queries with a hit within 10."""
    order_QN = np.argsort(-similarity_QN, axis=1, kind="stable")
    hit_QN = np.take_along_axis(right_QN, order_QN, axis=1)
    precision_QN = np.cumsum(hit_QN, axis=1) / np.arange(1, hit_QN.shape[1] + 1)
    average_Q = (precision_QN * hit_QN).sum(1) / hit_QN.sum(1)
    return 100 * np.mean(average_Q[hit_QN[:, :10].any(1)])
