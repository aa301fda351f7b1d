"""Counts what a data set holds from its index alone; ``data/text/statistics.py`` describes its captions."""

import numpy as np

from alp_jax.core.clip import SAMPLE_RATE, SPLITS
from alp_jax.data.store.dataset import Dataset

_QUANTILES = (0, 5, 50, 95, 100)


def stats(dataset: Dataset) -> dict:
    """Clips, hours, captions and lengths of every split and, within it, every source.

    Returns:
      {"fingerprint", "pairs" (captions of the ladder), "clips", "hours", "captions", "seconds", "excluded": {reason:
      row}, "splits": {split: row | {"sources": {source: row}}}}, where a row has clips, hours, captions and seconds
      (quantiles 0, 5, 50, 95, 100). Only "excluded" counts clips that are stored but not used.
    """
    by_split = {split: rows for split in SPLITS if len(rows := dataset.rows(split))}
    splits = {}
    for split, rows in by_split.items():
        codes = dataset.source[rows]
        sources = {dataset.sources[code]: _row(dataset, rows[codes == code]) for code in np.unique(codes)}
        splits[split] = _row(dataset, rows) | {"sources": dict(sorted(sources.items()))}
    used = np.concatenate([*by_split.values(), np.zeros(0, np.int64)])
    excluded = {
        reason: _row(dataset, np.flatnonzero(dataset.excluded == code))
        for code, reason in enumerate(dataset.exclusions)
        if reason and np.any(dataset.excluded == code)
    }
    return _row(dataset, used) | {
        "fingerprint": dataset.fingerprint,
        "pairs": int(dataset.num_captions[dataset.ladder_rows()].sum()),
        "excluded": dict(sorted(excluded.items())),
        "splits": splits,
    }


def _row(dataset: Dataset, rows: np.ndarray) -> dict:
    seconds = dataset.num_samples[rows] / SAMPLE_RATE
    quantiles = np.percentile(seconds, _QUANTILES) if len(rows) else np.zeros(len(_QUANTILES))
    return {
        "clips": len(rows),
        "hours": round(float(seconds.sum()) / 3600, 4),
        "captions": int(dataset.num_captions[rows].sum()),
        "seconds": {str(q): round(float(value), 2) for q, value in zip(_QUANTILES, quantiles, strict=True)},
    }


def stats_lines(label: str, result: dict) -> list[str]:
    """``stats`` as a table for people."""
    lines = [f"{label}: {result['pairs']} training pairs"]
    lines += [f"  {'':<28}{'clips':>10}{'hours':>11}{'captions':>10}{'seconds 5/50/95 %':>22}", _line("all", result)]
    for split, row in result["splits"].items():
        lines += [_line(split, row), *(_line(f"  {source}", part) for source, part in row["sources"].items())]
    return lines + [_line(f"not used: {reason}", row) for reason, row in result["excluded"].items()]


def _line(label: str, row: dict) -> str:
    seconds = " / ".join(f"{row['seconds'][q]:.1f}" for q in ("5", "50", "95"))
    return f"  {label:<28}{row['clips']:>10}{row['hours']:>11.3f}{row['captions']:>10}{seconds:>22}"
