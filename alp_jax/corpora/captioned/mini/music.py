"""Music cut into ten-second segments. Label: ``soundtrack`` (track-disjoint: the group is the track).

The label says which release a segment belongs to. That is all the packages state for every track, and it is a mix of
composer, style and production, not a genre annotation.
"""

import re
from collections.abc import Iterator

from alp_jax.corpora.captioned.mini.headers import probe, track_tags
from alp_jax.corpora.captioned.mini.item import Item, Tree

SEGMENT_S = 10.0
MAX_SEGMENTS = 12

# package -> [(part of the path, soundtrack, style, purpose, artist if the files do not state it)]
_SOUNDTRACKS = {
    "singularity-music": ("/music/", "singularity", "electronic ambient music", "a strategy game about a rogue AI", ""),
    "hedgewars-data": ("/Music/", "hedgewars", "cartoon game music", "an artillery game with hedgehogs", ""),
    "fretsonfire-songs-muldjord": ("/muldjord/", "muldjord", "death metal", "a guitar playing game", "Muldjord"),
    "trackballs-data": ("/trackballs/music/", "trackballs", "synthesizer game music", "a marble rolling game", ""),
    "asterisk-moh-opsound-g722": ("/moh/", "opsound", "music on hold", "callers waiting on the telephone", ""),
    "frozen-bubble-data": ("/snd/", "frozenbubble", "cheerful game music", "a bubble shooting puzzle", ""),
    "extremetuxracer-data": ("/music/", "tuxracer", "upbeat game music", "a downhill penguin race", ""),
    "gcompris-qt-data": ("/explore_world_music/", "worldmusic", "traditional world music", "a music lesson", ""),
    "wesnoth-1.16-music": ("/music/", "wesnoth", "orchestral fantasy game music", "a fantasy strategy game", ""),
    "warzone2100-music": ("/music/", "warzone", "game music", "a post-apocalyptic strategy game", ""),
    "hyperrogue-music": ("/hyperrogue/", "hyperrogue", "game music", "a puzzle game on a hyperbolic plane", ""),
    "planetblupi-music-ogg": ("/music/", "planetblupi", "cheerful game music", "a children's strategy game", ""),
    "ufoai-music": ("/music/", "ufoai", "game music", "a tactical game about an alien invasion", ""),
}  # fmt: skip
_LOOPS = {"lmms-common": r"/(beats|bassloops)/", "sonic-pi-samples": r"/(loop|bass_dnb)_"}
_LOOP_WORDS = {"amen": "drum break", "dnb": "drum and bass", "tb": "acid synthesizer", "briff": "bass riff"}


def segments(seconds: float) -> list[float]:
    """Start times of at most MAX_SEGMENTS whole segments spread evenly over a track; a short track is one segment."""
    whole = int(seconds // SEGMENT_S)
    if whole <= MAX_SEGMENTS:
        return [SEGMENT_S * i for i in range(max(1, whole))]
    step = (seconds - SEGMENT_S) / (MAX_SEGMENTS - 1)
    return [round(step * i, 3) for i in range(MAX_SEGMENTS)]


def items(tree: Tree) -> Iterator[Item]:
    """Segments of every known soundtrack, then short loops."""
    for package, (under, name, style, purpose, artist) in _SOUNDTRACKS.items():
        for relpath, path in tree.audio(package, under):
            header = probe(path)
            if header is None or header[0] < SEGMENT_S / 2:
                continue
            facts = _facts(path, style, purpose, artist, header[0])
            yield from _segments(package, relpath, path, name, facts, header[0])
    yield from _loops(tree)


def _facts(path, style: str, purpose: str, artist: str, seconds: float) -> dict[str, str]:
    tags = track_tags(path)
    stem = re.sub(r"[_-]+", " ", path.stem).strip()
    if path.stem in ("song", "guitar"):
        stem = path.parent.name.replace("_", " ")
    if path.stem == "guitar":
        style = f"solo guitar track of {style}"
    if path.suffix == ".g722" and "-" in path.stem:
        artist, stem = (part.replace("_", " ") for part in path.stem.split("-", 1))
    title = re.sub(r"\s*\(fof .*\)", "", tags.get("title", "")) or stem
    length = "short" if seconds < 90 else "three-minute" if seconds < 210 else "long"
    genre = tags.get("genre", "")
    named = f"{style} ({genre})" if genre and genre.lower() not in style else style
    return {
        "style": named, "purpose": purpose, "artist": tags.get("artist", "") or artist, "title": f'"{title}"',
        "track_length": length,
    }  # fmt: skip


def _segments(package, relpath, path, name, facts, seconds) -> Iterator[Item]:
    track = path.parent.name if path.stem in ("song", "guitar") else path.stem
    label = {"soundtrack": name} if path.stem != "guitar" else {}
    starts = segments(seconds)
    for number, start in enumerate(starts):
        share = start / max(seconds - SEGMENT_S, 1e-9)
        part = "beginning" if share < 0.15 else "end" if share > 0.85 and len(starts) > 1 else "middle"
        tags = ("music", facts["style"], facts["title"].strip('"'), *([facts["artist"]] if facts["artist"] else []))
        yield Item(
            package=package, relpath=relpath, path=path, kind="music", source="mini-music",
            group=f"track:{name}/{track}", policy=f"rank:{name}:20:4", facts={**facts, "part": part},
            tags=(*tags, part), labels=label, segment=number, start_s=start,
            duration_s=min(SEGMENT_S, round(seconds - start, 3)),
        )  # fmt: skip


def _loops(tree: Tree) -> Iterator[Item]:
    for package, pattern in _LOOPS.items():
        for relpath, path in tree.audio(package, "/samples/"):
            if not re.search(pattern, f"/{relpath}"):
                continue
            words = re.sub(r"[^A-Za-z]+", " ", path.stem.removeprefix("loop_")).lower().split()
            name = " ".join(_LOOP_WORDS.get(word, word) for word in words if word != "loop") or "unnamed"
            facts = {"style": f"{name} loop", "loop": name, "purpose": "live coding and mixing", "part": "middle"}
            yield Item(
                package=package, relpath=relpath, path=path, kind="music", source="mini-music", facts=facts,
                group=f"loop:{package}/{path.stem}", policy="hash:15:5", tags=("music", "loop", name),
            )  # fmt: skip
