"""Evaluation sets to compare training clips with: splits of built data sets, published metadata, blacklists."""

import csv
import dataclasses
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa

from alp_jax.core import storage
from alp_jax.core.clip import Clip, Rejected
from alp_jax.core.errors import UserError
from alp_jax.data.audit import columns
from alp_jax.data.audit.columns import Columns
from alp_jax.data.store.dataset import Dataset

BLACKLISTED = {"AudioSet": "youtube", "FreeSound": "freesound"}  # name in the file -> namespace of recordings


@dataclasses.dataclass(frozen=True)
class EvalSet:
    """Clips that must not be trained on.

    Attributes:
      name: its name in reports.
      clips: the columns of its clips.
      captions: number in ``clips`` -> the captions of that clip.
      covers: names of the corpora it covers, in lower case, see ``known.py``.
      rejected: rows of its metadata that could not be used, by reason.
    """

    name: str
    clips: Columns
    captions: Callable[[int], tuple[str, ...]]
    covers: tuple[str, ...]
    rejected: dict[str, int] = dataclasses.field(default_factory=dict)


def of_rows(name: str, dataset: Dataset, rows: np.ndarray) -> EvalSet:
    """Clips of a built data set; ``rows`` int64, ascending, at least one."""
    clips = columns.concat(list(columns.of_dataset(dataset, rows)))
    present = tuple(clips.sources[number].lower() for number in np.unique(clips.source))

    def captions(number: int) -> tuple[str, ...]:
        return dataset.read(int(clips.row[number]), audio=False).captions

    return EvalSet(name, clips, captions, present)


def of_splits(dataset: Dataset, splits: Iterable[str]) -> list[EvalSet]:
    """The clips in use of each of ``splits`` that has any."""
    chosen = [(split, dataset.rows(split)) for split in splits]
    return [of_rows(f"{dataset.path}:{split}", dataset, rows) for split, rows in chosen if len(rows)]


def of_clips(name: str, clips: Iterable[Clip | Rejected], covers: tuple[str, ...] = ()) -> EvalSet:
    """Clips of published metadata, compared by recording and caption.

    Raises:
      UserError: there are none.
    """
    rejected, parts, texts = Counter(), [], []
    for part, captions in columns.of_clips(clips, rejected):
        parts.append(part)
        texts.append(pa.array(captions, pa.list_(pa.string())))
    if not parts:
        raise UserError(f"{name} has no clips" + "".join(f", {n} {reason}" for reason, n in rejected.items()))
    joined, text = columns.concat(parts), pa.concat_arrays(texts)
    return EvalSet(
        name,
        joined,
        lambda number: tuple(text[number].as_py()),
        (*covers, *joined.sources),
        dict(sorted(rejected.items())),
    )


def of_blacklist(path: str | os.PathLike) -> EvalSet:
    """Recordings that WavCaps lists for exclusion: ``{"AudioSet": ["Y<YouTube id>.wav"], "FreeSound": [ids]}``.

    The list of DCASE's task on language-based retrieval, a table whose first column is Freesound ids, is read too.

    The lists give no times: any stretch of a listed Freesound recording counts as an evaluation clip, and for a video
    the clip that AudioSet has of it. Entries that are not ids (the published lists contain ``Not found``) are counted
    as rejected.

    Raises:
      UserError: the file has another form.
    """
    problem = f"blacklist {path}: expected {{{', '.join(f'{key!r}: [ids]' for key in BLACKLISTED)}}}"
    name = os.path.basename(os.fspath(path))
    try:
        text = storage.read(path).decode()
        lists = {"FreeSound": _first_column(text)} if name.endswith(".csv") else json.loads(text)
    except FileNotFoundError:
        raise UserError(f"blacklist {path} does not exist") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{problem}: {error}") from None
    if not isinstance(lists, dict) or not lists:
        raise UserError(problem)
    clips = []
    for key, ids in lists.items():
        if key not in BLACKLISTED or not isinstance(ids, list):
            raise UserError(f"{problem}, found {key!r}")
        for number, text in enumerate(ids):
            own = _listed(key, text)
            if own:
                clips.append(
                    Clip(f"blacklist:{key}/{own}", f"blacklist_{key.lower()}", f"{BLACKLISTED[key]}:{own}", "")
                )
            else:
                clips.append(Rejected(f"{path} {key}[{number}]", "bad_id", repr(text)))
    # the evaluation sets that the words of a published blacklist's file name stand for
    words = {"ac": ("audiocaps", "clotho"), "ub8k": ("urbansound8k",), "esc50": ("esc50",), "vggsound": ("vggsound",)}
    words["task6"] = ("clotho",)  # of dcase2024_task6_excluded_freesound_ids.csv
    stem = name.rpartition(".")[0].lower()
    covered = tuple(corpus for word in stem.split("_") for corpus in words.get(word, ()))
    return of_clips(f"blacklist:{name}", clips, covered)


def _first_column(text: str) -> list[str]:
    """The cells of the first column of a table, without its heading."""
    cells = [row[0] for row in csv.reader(io.StringIO(text)) if row]
    return cells if cells and cells[0].isdecimal() else cells[1:]


def _listed(key: str, value: object) -> str:
    """The id in the form used for recordings; "" if ``value`` is not one."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if key == "FreeSound":
        text = text.removesuffix(".wav").removesuffix(".flac")
        return str(int(text)) if text.isdecimal() else ""
    stem = text.removesuffix(".wav")
    return stem[1:] if len(stem) == 12 and stem.startswith("Y") else ""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """All evaluation sets as one; clip ``i`` is clip ``i - first[owner[i]]`` of set ``owner[i]``."""

    sets: tuple[EvalSet, ...]
    clips: Columns
    owner: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, sets: Iterable[EvalSet]) -> "Evaluation":
        """Puts sets together, in their order."""
        sets = tuple(sets)
        sizes = [len(one.clips) for one in sets]
        return cls(
            sets,
            columns.concat([one.clips for one in sets]),
            np.repeat(np.arange(len(sets), dtype=np.int32), sizes),
            np.cumsum([0, *sizes])[:-1],
        )

    def captions(self, number: int) -> tuple[str, ...]:
        """The captions of clip ``number``, counted over all sets."""
        owner = int(self.owner[number])
        return self.sets[owner].captions(number - int(self.first[owner]))
