"""Drum and percussion one-shots. Label: ``drum`` (kit-disjoint: the group is the kit)."""

import re
from collections.abc import Iterator

from alp_jax.corpora.captioned.mini.item import Item, Tree

# class -> (noun phrase, pattern); the first match wins
_CLASSES = {
    "shaker": ("a shaker or tambourine", r"shaker|tamb|maraca|cabasa"),
    "clap": ("a hand clap", r"clap|snap"),
    "cowbell": ("a cowbell", r"cow ?bell"),
    "hihat": ("a hi-hat", r"hi ?hat|\bhat|\bhh\b|cymbal (closed|pedal|open)"),
    "kick": ("a kick drum", r"kick|bass ?drum|drum bass|\bbd\b"),
    "snare": ("a snare drum", r"snare|\bsn\b|side ?stick|\brim"),
    "tom": ("a tom", r"\btom"),
    "cymbal": ("a cymbal", r"ride|crash|splash|china|cymbal|\bbell\b"),
    "hand_drum": ("a hand drum", r"conga|bongo|tabla|djembe|timba|udu"),
}  # fmt: skip
_DYNAMICS = {"softest": "very softly", "soft": "softly", "med": "at medium strength", "hardest": "as hard as possible",
             "hard": "hard"}  # fmt: skip
# package -> [(part of the path, kit, what the kit is called, policy)]
_KITS = {
    "hydrogen-data": [
        ("/GMRockKit/", "gmrock", "an acoustic rock drum kit", "train"),
        ("/TR808EmulationKit/", "tr808", "a TR-808 style drum machine", "test"),
    ],
    "lmms-common": [("/samples/drums/", "lmms", "a studio drum sample pack", "test")],
    "sonic-pi-samples": [("/samples/", "sonicpi", "a live coding sample pack", "train")],
}
_DRUM_FILES = {"sonic-pi-samples": r"/(bd|drum|sn|tabla|elec)_"}


def items(tree: Tree) -> Iterator[Item]:
    """Every one-shot of the kits that are known by folder, then those that a drumkit.xml would list."""
    for package, kits in _KITS.items():
        for under, kit, called, policy in kits:
            for relpath, path in tree.audio(package, under):
                if re.search(_DRUM_FILES.get(package, ""), f"/{relpath}"):
                    yield _item(package, relpath, path, kit, called, policy)
    package = "hydrogen-drumkits"
    for relpath, path in tree.audio(package, "/drumkits/"):
        kit = path.parent.name
        yield _item(package, relpath, path, kit.lower(), f"the {spaced(kit)} drum kit", "train")


def spaced(name: str) -> str:
    """``HatClosed-Hard`` -> ``Hat Closed Hard``, ``bassdrum_acoustic01`` -> ``bassdrum acoustic``."""
    name = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return " ".join(re.sub(r"[^A-Za-z0-9]+|(?<=[a-z])\d+", " ", name).split())


def classify(name: str) -> str:
    """The drum class of a spaced name, or an empty text."""
    return next((label for label, (_, pattern) in _CLASSES.items() if re.search(pattern, name.lower())), "")


def _item(package, relpath, path, kit, called, policy) -> Item:
    name = spaced(path.stem).lower()
    name = re.sub(r"^(808|elec) ", lambda match: {"808": "", "elec": "electronic "}[match[1]], name)
    label = classify(name)
    played = next((how for word, how in _DYNAMICS.items() if word in name.split()), "")
    plain = " ".join(word for word in name.split() if word not in _DYNAMICS)
    noun = _CLASSES[label][0] if label else f"a {plain} percussion sound"
    facts = {"drum": noun, "kit": called, "played": played, "name": plain}
    tags = (*([label.replace("_", " ")] if label else []), plain, "drum one-shot", called.split(" ", 1)[1])
    return Item(
        package=package, relpath=relpath, path=path, kind="drum", source="mini-drums", group=f"kit:{kit}",
        policy=policy, facts=facts, tags=tuple(dict.fromkeys(tags)), labels={"drum": label} if label else {},
    )  # fmt: skip
