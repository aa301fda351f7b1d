"""Overlaps between published corpora that are known without looking: what an audit has to be given to see them.

They are what the corpora's own pages and papers, and people who compared ids, have reported.
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
