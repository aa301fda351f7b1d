"""What the paper (arXiv 2511.16757v2) reports for its encoders on the full CaptionStew, to print beside our results.

Values are shares of 1, as in our results, and the judge's scores from 1 to 10; the paper prints most shares in percent.
The figures of three of its baselines could not be read (``_UNREAD``), only those of its supervised Zipformer. What the
paper leaves open is said in ``PublishedResult.stated``.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from alp_jax.core.metrics import number, title
from alp_jax.core.run_files import (
    ANSWERS,
    ATTENTION,
    AUDIO_TO_TEXT,
    CAPTIONING,
    DETECTION,
    FRAMES,
    JUDGED,
    LOCKED,
    MEAN,
    RETRIEVAL,
    TEXT_TO_AUDIO,
)

ROWS = (
    "supervised",
    "contrastive, scratch",
    "captioning, scratch",
    "contrastive, supervised start",
    "captioning, supervised start",
)
_PROBED, _POOLED, _LANGUAGE, _QUESTIONS = (
    "linear probes, mean pooling",
    "probes, attention pooling",
    "audio-language alignment, frozen audio encoder",
    "open-form question answering, AIR-Bench",
)
# The authors' toolbox (Auden, examples/clap/retrieval_eval.py) prints recall at 1, 5 and 10 in both directions. Its
# voice encoder (examples/voice/README.md) has R@1 of 61.7 on ParaSpeechCaps from text to audio, and others have R@1 of
# 38.2 on AudioCaps (arXiv 2308.15090): the paper's figures are of that size.
_UNREAD = ("BEATs", "wav2vec 2.0", "MERT")
_RECALL = "recall; K and direction not stated, by their size R@1"
_SPEAKER = "percent; which of the three is which could not be checked"


class PublishedResult(NamedTuple):
    """One column of a table of the paper.

    Attributes:
      metric: ours, which the values are to be compared with.
      values: one for every one of ``ROWS``; None where the paper gives none.
      place: the part of the paper that has them.
      stated: the metric in the paper's words, where it is not clearly ours; else empty.
    """

    metric: str
    values: tuple[float | None, ...]
    place: str
    stated: str = ""


def _percent(metric: str, place: str, *values: float | None, stated: str = "") -> PublishedResult:
    shares = tuple(None if value is None else round(value / 100, 6) for value in values)
    return PublishedResult(metric, shares, place, stated)


def _recall(*values: float | None) -> PublishedResult:
    return _percent("recall_at_1", _LANGUAGE, *values, stated=_RECALL)


# (task, pooling, data set; "" where the name of the task tells it) -> what the paper has
TABLES: dict[tuple[str, str, str], PublishedResult] = {
    ("fsd50k", MEAN, ""): PublishedResult("map", (0.656, 0.625, 0.580, 0.664, 0.652), _PROBED),
    ("vggsound", MEAN, ""): _percent("accuracy", _PROBED, 56.46, 50.87, 47.79, 54.70, 53.13),
    ("voxceleb2", MEAN, ""): _percent("accuracy", _PROBED, 18.84, 46.67, 33.43, 38.17, 26.23),
    ("crema_d", MEAN, ""): _percent("accuracy", _PROBED, 67.14, 67.71, 63.60, 68.84, 65.86),
    ("magnatagatune", MEAN, ""): PublishedResult("map", (0.407, 0.406, 0.401, 0.406, 0.410), _PROBED),
    ("nsynth_instrument", MEAN, ""): _percent("accuracy", _PROBED, 67.19, 67.30, 63.10, 69.38, 67.16),
    (DETECTION, FRAMES, "audioset_strong"): PublishedResult("psds1", (0.216, 0.132, 0.124, 0.187, 0.145), _PROBED),
    ("fsd50k", ATTENTION, ""): PublishedResult("map", (None, 0.640, 0.619, 0.670, None), _POOLED),
    ("vggsound", ATTENTION, ""): _percent("accuracy", _POOLED, None, 52.81, 50.97, 54.89, None),
    ("voxceleb2", ATTENTION, ""): _percent("accuracy", _POOLED, None, 72.86, 56.64, 72.24, None),
    ("crema_d", ATTENTION, ""): _percent("accuracy", _POOLED, None, 74.50, 70.40, 73.09, None),
    ("magnatagatune", ATTENTION, ""): PublishedResult("map", (None, 0.406, 0.406, 0.412, None), _POOLED),
    ("nsynth_instrument", ATTENTION, ""): _percent("accuracy", _POOLED, None, 75.00, 72.10, 76.70, None),
    (CAPTIONING, LOCKED, "audiocaps"): _percent("rouge_l", _LANGUAGE, 46.7, 46.6, 46.7, 47.2, None),
    (CAPTIONING, LOCKED, "paraspeechcaps"): _percent("rouge_l", _LANGUAGE, 45.5, 46.3, 46.5, 46.2, None),
    (CAPTIONING, LOCKED, "musiccaps"): _percent("rouge_l", _LANGUAGE, 22.9, 22.1, 22.9, 22.5, None),
    (TEXT_TO_AUDIO, LOCKED, "audiocaps"): _recall(40.5, 39.3, 36.9, 42.8, None),
    (TEXT_TO_AUDIO, LOCKED, "paraspeechcaps"): _recall(49.2, 63.2, 60.2, 60.6, None),
    (TEXT_TO_AUDIO, LOCKED, "musiccaps"): _recall(24.6, 27.4, 23.0, 29.4, None),
    ("qa_sound", JUDGED, ""): PublishedResult("score", (7.01, 6.65, 6.69, 6.73, None), _QUESTIONS),
    ("qa_Speaker_Gender_Recognition", ANSWERS, ""): _percent(
        "accuracy", _QUESTIONS, 36.5, 37.9, 44.2, 35.1, None, stated=_SPEAKER
    ),
    ("qa_Speaker_Age_Prediction", ANSWERS, ""): _percent(
        "accuracy", _QUESTIONS, 46.2, 81.3, 65.4, 67.3, None, stated=_SPEAKER
    ),
    # the published name of the task
    ("qa_Speaker_Emotion_Recontion", ANSWERS, ""): _percent(
        "accuracy", _QUESTIONS, 37.2, 63.4, 69.0, 64.5, None, stated=_SPEAKER
    ),
    ("qa_music", JUDGED, ""): PublishedResult("score", (5.61, 5.86, 5.97, 5.63, None), _QUESTIONS),
}
_CAPTIONED = ("audiocaps", "paraspeechcaps", "musiccaps")  # the data sets of the paper's language tasks
_QA_TASKS = tuple(task for task, _, _ in TABLES if task.startswith("qa_"))
_ONE_SET = tuple(dict.fromkeys(task for task, _, where in TABLES if not where and task not in _QA_TASKS))
# voxceleb1 is not the paper's, but unlike voxceleb2 it has an official split
PAPER_TASKS = (*_ONE_SET, DETECTION, "voxceleb1", *RETRIEVAL, CAPTIONING)
# task -> what to pass to 'alp data build' for its data set, if that differs from the task's name
_BUILT_AS = {
    "voxceleb2": "voxceleb --option version=2",
    "nsynth_instrument": "nsynth",
}
# the parts of the protocol: what makes each data set, and its tasks
_PARTS: dict[str, tuple[str, ...]] = {
    **{_BUILT_AS.get(task, task): (task,) for task in _ONE_SET},
    "audioset_strong": (DETECTION,),
    **dict.fromkeys(_CAPTIONED, (*RETRIEVAL, CAPTIONING)),
}


def _is_from(sources: Collection[str], where: str) -> bool:
    """Whether clips of ``sources`` are those of the data set ``where``; any version of it counts."""
    return bool(sources) and all(source == where or source.startswith(f"{where}_v") for source in sources)


def _column(task: str, pooling: str, sources: Collection[str]) -> PublishedResult | None:
    asked = TEXT_TO_AUDIO if task == AUDIO_TO_TEXT else task  # one figure, for one of the two
    for (name, way, where), column in TABLES.items():
        if (name, way) == (asked, pooling) and (not where or _is_from(sources, where)):
            return column
    return None


def published(task: str, pooling: str, sources: Collection[str]) -> dict[str, float]:
    """Row -> the paper's value for a result on clips of ``sources``; empty if the paper has none."""
    column = _column(task, pooling, sources)
    return {} if column is None else {row: v for row, v in zip(ROWS, column.values, strict=True) if v is not None}


def published_facts(task: str, pooling: str, sources: Collection[str]) -> dict[str, Any]:
    """What a result says of the paper: its figures as ``published``, and if there are any, what they are of and where
    they stand as ``published_as``, and which of our metrics that is as ``published_metric``."""
    column = _column(task, pooling, sources)
    facts: dict[str, Any] = {"published": published(task, pooling, sources)}
    if column is None:
        return facts
    return facts | {"published_as": f"{_measure(column)}; {column.place}", "published_metric": column.metric}


def _measure(column: PublishedResult) -> str:
    return column.stated or title(column.metric)


def published_table(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Lines with the paper's figures, and ours in the same metric, for every one of ``results`` for which it has any.

    The last line is about the paper's baselines that are not in it; without such a result there are no lines.
    """
    heads = ["here", "supervised", "contrastive", "captioning", "contrastive, start", "captioning, start"]
    cells = [["the paper reports for", "pooling", *heads, "of", "in"]]
    for result in results:
        column = _column(result["task"], result["pooling"], result.get("sources", ()))
        if column is not None:
            shown = [number(column.metric, value) for value in (_value(result, column.metric), *column.values)]
            cells.append([result["task"], result["pooling"], *shown, _measure(column), column.place])
    if len(cells) == 1:
        return []
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return [*(line.rstrip() for line in lines), f"not stated where it could be read: {', '.join(_UNREAD)}"]


def _value(result: Mapping[str, Any], metric: str) -> float | None:
    """What was measured of ``metric``, which need not be the one that the result is about; None for a failed one."""
    if result.get("metric") == metric:
        return result["value"]
    return result.get("metrics", {}).get(metric, {}).get("value")


def not_measured(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for every part of the paper's protocol that is missing from ``results``, and how to add it."""
    measured = {(result["task"], source) for result in results for source in result.get("sources", ())}
    lines = []
    for built, tasks in _PARTS.items():
        where = built if built == "audioset_strong" or built in _CAPTIONED else None
        lacking = [
            task
            for task in tasks
            if not any(task == name and (where is None or _is_from((source,), where)) for name, source in measured)
        ]
        if lacking:
            on = f" on {built}" if built in _CAPTIONED else ""
            lines.append(f"not measured{on}: {', '.join(lacking)}; needs alp data build {built}")
    asked = [task for task in _QA_TASKS if all(task != name for name, _ in measured)]
    return [*lines, *([f"not measured: {', '.join(asked)}; needs alp qa and AIR-Bench"] if asked else [])]
