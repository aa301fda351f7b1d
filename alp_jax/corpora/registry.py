"""Every corpus that can be read, by name."""

import os
import pathlib
from collections.abc import Sequence

from alp_jax.core import storage
from alp_jax.core.clip import SPLITS
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.corpora import (
    audiocaps,
    audiosetcaps,
    clotho,
    folder,
    fusionaudio,
    jamendomaxcaps,
    lhotse,
    musiccaps,
    paraspeechcaps,
    tfds,
    wavcaps,
)
from alp_jax.corpora.adapter import Clips, metadata_files
from alp_jax.corpora.benchmarks import audioset_strong, crema_d, fsd50k, magnatagatune, nsynth, vggsound, voxceleb
from alp_jax.corpora.own.tables import CONTAINERS
from alp_jax.corpora.splits import SplitRule

ADAPTERS = {
    "audiocaps": audiocaps.ADAPTER,
    "audioset_strong": audioset_strong.ADAPTER,
    "audiosetcaps": audiosetcaps.ADAPTER,
    "clotho": clotho.ADAPTER,
    "crema_d": crema_d.ADAPTER,
    "folder": folder.ADAPTER,
    "fsd50k": fsd50k.ADAPTER,
    "fusionaudio": fusionaudio.ADAPTER,
    "jamendomaxcaps": jamendomaxcaps.ADAPTER,
    "lhotse": lhotse.ADAPTER,
    "magnatagatune": magnatagatune.ADAPTER,
    "musiccaps": musiccaps.ADAPTER,
    "nsynth": nsynth.ADAPTER,
    "paraspeechcaps": paraspeechcaps.ADAPTER,
    "tfds": tfds.ADAPTER,
    "vggsound": vggsound.ADAPTER,
    "voxceleb": voxceleb.ADAPTER,
    "wavcaps": wavcaps.ADAPTER,
}


def read(
    name: str,
    metadata: Sequence[str | os.PathLike],
    audio: str | os.PathLike | None = None,
    split: str | None = None,
    **options: str,
) -> Clips:
    """The clips of a corpus, streaming, with rows that cannot be used as ``Rejected`` in their place.

    Everything that can be checked without reading the metadata is checked before this returns.

    Args:
      name: key of ADAPTERS.
      metadata: the published files, folders that hold them, or patterns of their names. Of people's own data: empty
        when they lie in the folder of audio.
      audio: folder of the audio; None for statistics of captions and audits, where ``Clip.audio_path`` is "".
      split: the split of every clip; None: what the metadata or its file names say.
      options: settings of the adapter.

    Raises:
      UserError: unknown name, option or value; files that do not exist; and, while iterating, metadata of another
        form than published.
    """
    adapter = ADAPTERS[choose(name, ADAPTERS, "corpus")]
    for key, value in options.items():
        if not adapter.options:
            raise UserError(f"{name} has no options, not {key!r}")
        option = adapter.options[choose(key, adapter.options, f"option of {name}")]
        if option.choices and value != option.default:
            choose(value, option.choices, f"{key} of {name}")
    if split is not None:
        choose(split, SPLITS, "split")
    if not metadata and not (adapter.own and audio is not None):
        raise UserError(f"{name} needs --metadata: {adapter.metadata}")
    if not metadata:
        metadata, audio = [audio], None
    if adapter.own and audio is None and _is_one_folder(metadata):
        audio = metadata[0]
    root = None
    if audio is not None:
        root = pathlib.Path(os.path.abspath(storage.local(audio)))
        if not root.is_dir():
            raise UserError(f"audio folder {root} does not exist")
    files = metadata_files([storage.local(path) for path in metadata], adapter.suffixes)
    return adapter.read(files, root, split, **options)


def split_rule(
    name: str,
    metadata: Sequence[str | os.PathLike],
    audio: str | os.PathLike | None = None,
    split: str | None = None,
    **options: str,
) -> SplitRule | None:
    """How ``read`` splits clips of which the metadata does not say it; None when it says it, or ``split`` does."""
    adapter = ADAPTERS[choose(name, ADAPTERS, "corpus")]
    if adapter.split_rule is None:
        return None
    given = metadata or ([] if audio is None else [audio])
    files = metadata_files([storage.local(path) for path in given], adapter.suffixes)
    return adapter.split_rule(files, split, **options)


def enough(name: str, metadata: Sequence[str] | None, audio: str | None, dry_run: bool) -> bool:
    """Whether a build has what it needs: metadata, and audio unless the metadata holds it or nothing is decoded."""
    adapter = ADAPTERS[name]
    if not metadata:
        return adapter.own and bool(audio)
    inside = _is_one_folder(metadata) or all(path.lower().endswith(CONTAINERS) for path in metadata)
    return bool(audio) or (adapter.own and inside) or dry_run or not adapter.audio


def _is_one_folder(paths: Sequence[str | os.PathLike]) -> bool:
    return len(paths) == 1 and not storage.is_remote(paths[0]) and storage.local(paths[0]).is_dir()
