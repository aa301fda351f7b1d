"""What each source of the data is worth: all of them, all but one, and one alone.

    alp sweep --sweep configs/sweeps/sources.py --out runs/sources --on slurm --dry_run
    alp sweep --sweep configs/sweeps/sources.py:size=mini --data data/mini --out runs/sources

``size=paper``: the eight corpora of CaptionStew with the paper's encoder, a third of its steps; ``size=mini``: the
sources of the mini corpus with a small one. Every run has the same length and all pairs of its sources, so that small
sources are repeated more often. ``objective`` is contrastive unless it is said. ``alp scaling sources`` reads the runs.
"""

from alp_jax.config import parse_arguments
from alp_jax.config.algebra import over, product
from alp_jax.config.arguments import choose

# corpus -> its sources in a data set
CORPORA = {
    "paper": {
        "audiocaps": ("audiocaps",),
        "clotho": ("clotho",),
        "musiccaps": ("musiccaps",),
        "wavcaps": ("wavcaps_audioset", "wavcaps_bbc", "wavcaps_freesound", "wavcaps_soundbible"),
        "audiosetcaps": ("audiosetcaps_audioset", "audiosetcaps_vggsound", "audiosetcaps_youtube8m"),
        "fusionaudio": ("fusionaudio",),
        "jamendomaxcaps": ("jamendomaxcaps",),
        "paraspeechcaps": ("paraspeechcaps",),
    },
    "mini": {name: (name,) for name in ("mini-drums", "mini-music", "mini-personas", "mini-sounds", "mini-words")},
}
BASES = {
    "paper": {"config": "configs/paper.py", "pairs": "all", "config.train.steps": 200_000},
    "mini": {"config": "configs/small.py", "pairs": "all", "config.train.steps": 500},
}


def get_sweep(arg: str | None = None) -> list[dict]:
    """Two runs per corpus and one with all."""
    values = parse_arguments(arg, {"size": "paper", "objective": "contrastive"})
    size = choose(values["size"], BASES, "size")
    corpora = CORPORA[size].values()
    alone = [",".join(names) for names in corpora]
    without = [",".join(f"-{name}" for name in names) for names in corpora]
    chosen = over("config.data.sources", ("", *without, *alone))
    return product([{**BASES[size], "objective": values["objective"]}], chosen)
