"""ParaSpeechCaps (Diwan et al. 2025): speaking styles of utterances from VoxCeleb, Expresso, EARS and Emilia.

Published as parquet files (``train_scaled-*``, ``train_base-*``, ``dev-*``, ``holdout-*``) with one or two descriptions
per utterance; the audio comes from the four corpora, each below a root of its own (an option; by default the folder
named after the source in the audio folder). The description's file is ``<root>/<relative_audio_path>``. VoxCeleb is
also the data of speaker probes, so its recordings are ``voxceleb:<video>``.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence

from alp_jax.core import storage
from alp_jax.core.clip import Clip
from alp_jax.core.errors import UserError
from alp_jax.corpora import objects, tables, youtube
from alp_jax.corpora.audio_files import below
from alp_jax.corpora.corpus import Clips, Corpus, Option, split_of
from alp_jax.corpora.rows import BadRow, captions, check_utf8, stated_seconds, tags, to_clips

_SOURCES = ("voxceleb", "expresso", "ears", "emilia")
_LISTS = ("text_description", "all_tags")
_REQUIRED = ("source", "relative_audio_path", "text_description", "speakerid")
_OPTIONAL = ("all_tags", "gender", "accent", "duration")


def clips(
    metadata: Sequence[pathlib.Path],
    audio: pathlib.Path | str | None = None,
    split: str | None = None,
    **roots: str,
) -> Clips:
    """One clip per row.

    Args:
      roots: ``<source>_root`` -> folder; "" for ``audio/<source>``.

    Raises:
      UserError: another schema, a root that is not a folder, or a file name without a split.
    """
    folders: dict[str, str | None] = {}
    for source in _SOURCES:
        root = roots.get(f"{source}_root")
        if root and not (objects.names(root) if storage.is_remote(root) else os.path.isdir(root)):
            raise UserError(f"--option {source}_root={root}: no such folder")
        folders[source] = root or (None if audio is None else storage.join(audio, source))
    for path in metadata:
        file_split = split_of(path, split, None)
        rows = tables.parquet_rows(path, _REQUIRED, _OPTIONAL, _LISTS)
        yield from to_clips(f"{path} row", rows, _clip, file_split, folders)


def _clip(row: tuple, split: str, folders: Mapping[str, str | None]) -> Clip:
    origin, relative, descriptions, speaker, words, gender, accent, duration = row
    source = origin.lower() if isinstance(origin, str) else ""
    if source not in folders:
        raise BadRow("bad_record", f"source is {origin!r}, not one of {', '.join(_SOURCES)}")
    if not isinstance(relative, str):
        raise BadRow("bad_record", "relative_audio_path is missing")
    check_utf8(relative, "relative_audio_path")
    labels = {"speaker": f"{source}:{speaker}" if speaker else "", "gender": gender, "accent": accent}
    recording, start = _recording(source, relative)
    return Clip(
        id=f"paraspeechcaps:{source}/{relative}",
        source="paraspeechcaps",
        recording=recording,
        audio_path=below(folders[source], relative),
        captions=captions(descriptions or (), "text_description"),
        tags=tags(words, "all_tags"),
        labels={task: label for task, label in labels.items() if label},
        split=split,
        group=recording,
        recording_start_s=start,
        stated_s=stated_seconds(duration),
    )


def _recording(source: str, relative: str) -> tuple[str, float | None]:
    """The recording an utterance was cut from and where it starts there, as far as its path says."""
    parts = relative.split("/")
    stem = os.path.splitext(parts[-1])[0].removesuffix("_voicefixer")
    if source == "voxceleb":  # .../<speaker>/<video>/<number>.wav
        return f"voxceleb:{youtube.video(parts[-2] if len(parts) > 1 else '')}", None
    if source == "emilia":  # EN_B00030_S01984_W000037: utterance W of recording S
        return f"emilia:{stem.rpartition('_W')[0] or stem}", None
    if source == "ears":
        return f"ears:{'/'.join([*parts[-2:-1], stem])}", 0.0
    return f"expresso:{stem}", 0.0


CORPUS = Corpus(
    name="paraspeechcaps",
    title="ParaSpeechCaps: speaking styles of VoxCeleb, Expresso, EARS and Emilia utterances",
    read=clips,
    metadata="the parquet files train_scaled-*, train_base-*, dev-*, holdout-*",
    audio="folders voxceleb, expresso, ears, emilia (or the options), holding each relative_audio_path",
    suffixes=(".parquet",),
    options={
        f"{source}_root": Option(f"folder of the {source} audio (default: AUDIO/{source})") for source in _SOURCES
    },
    remote_audio=True,
)
