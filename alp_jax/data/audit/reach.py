"""How many altered copies of a clip an audit recognises by their sound.

``python -m alp_jax.bench.near_duplicates --data data/mini`` prints the table again. It was measured on 180 test clips
of the corpus of ``alp quickstart``, half of them shorter than 0.9 s, and for stretches on 60 of 3 s and more. What is
told apart here depends on the sounds: clips of 10 s are found more often.
"""

from collections.abc import Iterator

RECALL: dict[str, tuple[int, int]] = {  # way of altering -> found, planted
    "noise 20 dB below": (135, 180),
    "MP3 at 8 kHz": (137, 180),
    "speed x1.03": (128, 180),
    "speed x0.95": (121, 180),
    "reverberation of 0.5 s": (24, 180),
    "1 s of it inside 30 s": (13, 60),
    "2 s of it inside 30 s": (39, 60),
    "4 s of it inside 30 s": (48, 60),
}
RARELY = 0.5  # share below which a way counts as not found


def reach_lines() -> Iterator[str]:
    """What was found in the measurement, the best first, and what an audit mostly misses."""
    shares = sorted(RECALL.items(), key=lambda item: -item[1][0] / item[1][1])
    parts = {False: [], True: []}
    for way, (found, planted) in shares:
        parts[found < RARELY * planted].append(f"{way} {found}/{planted}")
    yield f"altered copies found by sound, as measured on short clips: {', '.join(parts[False])}"
    yield f"mostly not found: {', '.join(parts[True])}"
