"""What is known in advance about published corpora: their overlaps, and which part of a recording their clips are.

An audit finds an overlap only if it is given the evaluation set concerned. Those listed here were reported by the
corpora's own pages and papers, and by people who compared ids.
"""

import dataclasses
from collections.abc import Collection, Iterable


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Training sources whose names begin with ``source`` hold clips of the evaluation set ``test``."""

    source: str
    test: str
    what: str


OVERLAPS = (
    Overlap("audiosetcaps", "audiocaps", "the AudioCaps evaluation clips"),
    Overlap("audiosetcaps", "vggsound", "the VGGSound evaluation clips"),
    Overlap("fusionaudio", "audiocaps", "clips of AudioSet, which holds all of AudioCaps"),
    Overlap("wavcaps_audioset", "audiocaps", "17.6 % of AudioCaps"),
    Overlap("wavcaps_audioset", "vggsound", "clips of VGGSound"),
    Overlap("wavcaps_freesound", "clotho", "89.0 % of Clotho"),
    Overlap("wavcaps_freesound", "esc50", "clips of ESC-50"),
    Overlap("wavcaps_freesound", "urbansound8k", "clips of UrbanSound8K"),
    Overlap("wavcaps_freesound", "fsd50k", "recordings of Freesound, and no WavCaps blacklist covers FSD50K"),
    Overlap("musiccaps", "audioset", "2,858 clips of the AudioSet evaluation split"),
    Overlap("clotho", "clotho", "Freesound recordings that splits of Clotho share"),
    Overlap("fsd50k", "clotho", "5.4 % of Clotho in its training split"),
    Overlap("paraspeechcaps", "voxceleb", "utterances of VoxCeleb, on which speaker identification is measured"),
)


# AudioSet has one clip per video, and these corpora consist of its clips: one that states no start is that clip
AUDIOSET = frozenset(
    (
        *("audiocaps", "audiocaps_v2", "audioset", "audioset_strong", "audiosetcaps_audioset", "blacklist_audioset"),
        *("fusionaudio", "musiccaps", "wavcaps_audioset"),
    )
)
# corpora whose clips are whole recordings, and a blacklist that means whole recordings
WHOLE = frozenset(("blacklist_freesound", "fsd50k", "wavcaps_bbc", "wavcaps_freesound", "wavcaps_soundbible"))
# the pattern of the part of a recording within an id, by namespace of recordings, where no start is published
PARTS = {
    "voxceleb:": r"(?P<part>id\d{5}/[A-Za-z0-9_-]{11}/\d+)",
    "emilia:": r"(?P<part>[A-Z]{2}_B\d+_S\d+_W\d+)",
}


def warnings(sources: Iterable[str], covered: Collection[str]) -> list[str]:
    """A line for every known overlap of ``sources`` with an evaluation set that ``covered`` does not name.

    A name covers a set when it begins with it: ``audiocaps_v2`` covers audiocaps.
    """
    lines = []
    for source in sorted(set(sources)):
        for overlap in OVERLAPS:
            known = source.lower().startswith(overlap.source)
            if known and not any(name.lower().startswith(overlap.test) for name in covered):
                lines.append(
                    f"{source} holds {overlap.what}; {overlap.test} is not among the evaluation sets of this audit"
                )
    return lines
