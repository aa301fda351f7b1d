"""CaptionStew (arXiv 2511.16757): the eight corpora, each in the form in which its download lies on disk.

Below one folder every corpus has a folder of its name. Its published metadata lies there, or in one of METADATA below
it, as the downloads make it; its audio lies anywhere below it, in any form that the corpus can be read in.
"""

import dataclasses
import fnmatch
from collections.abc import Collection, Mapping, Sequence

from alp_jax.core import storage
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.corpora import objects, registry
from alp_jax.corpora.corpus import Clips
from alp_jax.corpora.state import state_of

NAME = "captionstew"
METADATA = ("", "metadata", "dataset", "Dataset", "data")  # folders of a corpus that may hold its metadata
_BLACKLISTS = ("json_files/blacklist", "blacklist", "")  # folders of WavCaps that may hold its blacklists
# Those that name evaluation clips alone. A third, blacklist_exclude_all_ac.json, also names the training clips of
# AudioCaps and Clotho, which are to be trained on.
_EVALUATION = ("*exclude_test_ac.json", "*exclude_ub8k_esc50_vggsound.json", "*excluded_freesound_ids*.csv")


@dataclasses.dataclass(frozen=True)
class Member:
    """One of the eight.

    Attributes:
      name: of the corpus and of its folder.
      needed: patterns of file names, at least one of which has a match.
      more: patterns of metadata files that are read too if they are there.
      folder: a folder that is given to the corpus whole if it is there; ``needed`` then need not match.
      clips, hours: as published; 0 where that is not stated.
      cost: processor time that a second of its audio takes, relative to that of a file of ten seconds.
    """

    name: str
    needed: tuple[str, ...]
    more: tuple[str, ...] = ()
    folder: str = ""
    clips: int = 0
    hours: float = 0.0
    cost: float = 1.0


MEMBERS = (
    Member("audiocaps", ("train.csv",), ("val.csv", "test.csv"), clips=51_308, hours=142.5),
    Member("clotho", ("clotho_captions_*.csv",), ("clotho_metadata_*.csv",), clips=5_929, hours=37.0),
    Member("musiccaps", ("musiccaps-public.csv",), clips=5_521, hours=15.3),
    Member("wavcaps", ("*_final.json",), ("fsd_final_2s.json",), folder="json_files", clips=403_050, hours=7_568.0),
    Member("audiosetcaps", ("*_caption.csv",), clips=6_117_099, hours=16_992.0),
    Member("fusionaudio", ("*.json", "*.jsonl"), clips=1_200_000, hours=3_333.0),
    # each stretch is decoded from the start of its track
    Member("jamendomaxcaps", ("final_caption30sec.jsonl",), ("[0-9][0-9][0-9][0-9]-*.jsonl",), cost=3.0),
    Member("paraspeechcaps", ("train_*.parquet",), ("dev-*.parquet", "holdout-*.parquet"), clips=1_067_890),
)


@dataclasses.dataclass(frozen=True)
class Found:
    """A corpus that is there."""

    member: Member
    metadata: list[str]
    audio: str
    options: Mapping[str, str]

    @property
    def name(self) -> str:
        """Its corpus, which is also the folder of its part of the collection."""
        return self.member.name

    @property
    def cost(self) -> float:
        """Processor time that a second of its audio takes, see ``Member``."""
        return self.member.cost

    def clips(self) -> Clips:
        """Its clips, read anew; UserError as ``registry.read``."""
        return registry.read(self.name, self.metadata, self.audio, **self.options)

    def state(self) -> str:
        """Identity of the options and files that ``clips`` depends on; changes when files come, go or change."""
        return state_of(self.audio, self.options)


def find(
    root: storage.Location | None, *, only: Sequence[str] = (), options: Sequence[str] = ()
) -> tuple[list[Found], dict[str, str]]:
    """The corpora below ``root``, and why each of the others is not there.

    Args:
      only: names of those that are wanted; empty: all eight.
      options: settings of single corpora, ``CORPUS.KEY=VALUE`` each.

    Raises:
      UserError: an unknown name, or no root.
    """
    if not root:
        raise UserError(f"--root DIR is needed to build {NAME}: a folder with a folder for each corpus, named after it")
    names = [member.name for member in MEMBERS]
    for name in only:
        choose(name, names, "--only")
    settings = _settings(options, names)
    found, missing = [], {}
    for member in MEMBERS:
        if only and member.name not in only:
            continue
        home = storage.join(root, member.name)
        metadata = _metadata(home, member)
        if metadata:
            found.append(Found(member, metadata, home, settings.get(member.name, {})))
        elif objects.names(home):
            where = ", ".join(f"{folder}/" for folder in METADATA if folder)
            missing[member.name] = f"no {' or '.join(member.needed)} in {home} or its {where}"
        else:
            missing[member.name] = f"no folder {home}"
    return found, missing


def require_found(found: Sequence[Found], missing: Mapping[str, str], allow_missing: bool) -> None:
    """Raises UserError if corpora are missing that may not be, or none is there."""
    why = "; ".join(f"{name} ({reason})" for name, reason in missing.items())
    if missing and not (found and allow_missing):
        raise UserError(
            f"{len(missing)} of {len(missing) + len(found)} corpora are missing: {why}. "
            "Fetch them, name those you want with --only, or leave these out with --allow_missing"
        )


def blacklists(found: Sequence[Found]) -> list[str]:
    """The published lists of evaluation clips among the files of WavCaps, as evaluation sets are named; empty if it is
    not among ``found``."""
    for one in found:
        if one.name == "wavcaps":
            for folder in _BLACKLISTS:
                home = storage.join(one.audio, folder) if folder else one.audio
                if lists := _matching(home, objects.names(home), _EVALUATION):
                    return [f"blacklist:{path}" for path in lists]
    return []


def _metadata(home: str, member: Member) -> list[str]:
    if member.folder and objects.names(storage.join(home, member.folder)):
        return [storage.join(home, member.folder)]
    for folder in METADATA:
        here = storage.join(home, folder) if folder else home
        names = objects.names(here)
        if needed := _matching(here, names, member.needed):
            return needed + _matching(here, names, member.more)
    return []


def _matching(folder: str, names: Collection[str], patterns: Sequence[str]) -> list[str]:
    return [storage.join(folder, name) for pattern in patterns for name in names if fnmatch.fnmatchcase(name, pattern)]


def _settings(options: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, str]]:
    settings: dict[str, dict[str, str]] = {}
    for text in options:
        key, _, value = text.partition("=")
        name, dot, key = key.partition(".")
        if not dot or not value:
            raise UserError(f"--option {text}: give it as CORPUS.KEY=VALUE, such as audiocaps.version=2")
        settings.setdefault(choose(name, names, "corpus"), {})[key] = value
    return settings
