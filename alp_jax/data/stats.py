"""What a data set holds, counted from its index and its captions."""

import numpy as np

from alp_jax.config.schema import DataConfig
from alp_jax.core.clip import SPLITS
from alp_jax.data.dataset import Dataset
from alp_jax.data.example import SAMPLE_RATE
from alp_jax.data.text.caption_ids import caption_ids
from alp_jax.data.text.normalise import normalise
from alp_jax.data.text.tokenizer import Tokenizer

_QUANTILES = (0, 5, 50, 95, 100)


def stats(dataset: Dataset, tokenizer: Tokenizer | None, config: DataConfig) -> dict:
    """Clips, hours, captions, words and lengths of every split and, within it, every source.

    Returns {"clips", "hours", "captions", "pairs" (captions of the ladder), "distinct_words", "distinct_captions",
    "splits": {split: row | {"sources": {source: row}}}} where a row has clips, hours, captions, distinct_words,
    words_per_caption (mean), seconds (quantiles 0, 5, 50, 95, 100) and, where there is a tokenizer, truncated_captions
    (share that ``config.text_budget`` cuts after ``config.text_clean``). Reads every record's text once.
    """
    texts, cuts = [], []
    for row in range(len(dataset)):
        captions = dataset.read(row, audio=False).captions
        texts.append(tuple(normalise(caption) for caption in captions))
        cuts.append(sum(caption_ids(caption, tokenizer, config)[1] for caption in captions) if tokenizer else None)
    everything = _row(dataset, np.arange(len(dataset)), texts, cuts)
    splits = {}
    for split in SPLITS:
        rows = dataset.rows(split)
        if len(rows):
            present = np.unique(dataset.source[rows])
            sources = {dataset.sources[s]: _row(dataset, rows[dataset.source[rows] == s], texts, cuts) for s in present}
            splits[split] = _row(dataset, rows, texts, cuts) | {"sources": dict(sorted(sources.items()))}
    return everything | {
        "fingerprint": dataset.fingerprint,
        "pairs": int(dataset.num_captions[dataset.ladder_rows()].sum()),
        "distinct_captions": len({text for of_clip in texts for text in of_clip}),
        "splits": splits,
    }


def _row(dataset: Dataset, rows: np.ndarray, texts: list[tuple[str, ...]], cuts: list[int | None]) -> dict:
    seconds = dataset.num_samples[rows] / SAMPLE_RATE
    words = [text.split() for row in rows for text in texts[row]]
    truncated = {} if cuts[0] is None else {"truncated_captions": sum(cuts[r] for r in rows) / max(1, len(words))}
    return truncated | {
        "clips": len(rows),
        "hours": round(float(seconds.sum()) / 3600, 4),
        "captions": len(words),
        "distinct_words": len({word for text in words for word in text}),
        "words_per_caption": round(sum(map(len, words)) / max(1, len(words)), 2),
        "seconds": {
            str(q): round(float(v), 2) for q, v in zip(_QUANTILES, np.percentile(seconds, _QUANTILES), strict=True)
        },
    }
