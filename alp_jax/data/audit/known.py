"""What is known of published corpora without looking: their overlaps, and which part of a recording their clips are.

Overlaps are what an audit has to be given to see them, as the corpora's own pages and papers, and people who compared
ids, have reported.
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
    Overlap("paraspeechcaps", "voxceleb", "utterances of VoxCeleb, the data of speaker identification"),
)


# AudioSet has one clip of a video, and these are its clips: where one does not state its start, it is that clip
AUDIOSET = frozenset(
    (
        *("audiocaps", "audiocaps_v2", "audioset", "audioset_strong", "audiosetcaps_audioset", "blacklist_audioset"),
        *("fusionaudio", "musiccaps", "wavcaps_audioset"),
    )
)
# clips that are whole recordings, and a list that means all of a recording
WHOLE = frozenset(("blacklist_freesound", "fsd50k", "wavcaps_bbc", "wavcaps_freesound", "wavcaps_soundbible"))
# what an id says of the part of a recording that a clip is, by the namespace of recordings, where no start is published
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
