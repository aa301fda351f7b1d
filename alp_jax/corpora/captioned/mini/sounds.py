"""Sound effects: events from file names and written sentences. Label: ``sound_event`` (package-disjoint)."""

import json
import re
from collections.abc import Iterator

from alp_jax.corpora.captioned.mini.events import classify, readable, words_of
from alp_jax.corpora.captioned.mini.item import Item, Tree, table

# package -> (part of the path, where such sounds are heard, policy, file names that carry no meaning)
_PLACES = {
    "ufoai-sound": ("/sound/", "a science fiction battle", "train", r"^$"),
    "minetest-data": ("/sounds/", "a mining and building game", "test", r"soundstuff"),
    "hedgewars-data": (
        "/Data/Sounds/",
        "a cartoon artillery game",
        "test",
        r"/voices/|/\d[A-G]\.|custom\d|TARDIS|valkyr|countdown|duck_d",
    ),
    "gcompris-qt-data": (
        ".rcc/",
        "a children's learning game",
        "test",
        r"Weird|LaPause|silence|/music/|/intro\.|/chronos/|rainbow|apert",
    ),
    "qabcs-data": ("/noises/", "a picture book for children", "train", r"^$"),
    "sound-icons": ("/sound-icons/", "a screen reader", "train", r"^$"),
    "sound-theme-freedesktop": ("/stereo/", "a computer desktop", "train", r"audio-channel"),
    "oxygen-sounds": ("/sounds/", "a computer desktop", "train", r"^$"),
    "lmms-common": ("/samples/", "a music program", "train", r"/(drums|shapes|waveforms|beats|bassloops)/|undefined"),
    "sonic-pi-samples": ("/samples/", "a live coding program", "train", r"/(bd|drum|sn|tabla|loop|elec|bass_dnb)_"),
}
_CUT = {
    "ufoai-sound": r"^.*/sound/", "minetest-data": r"^.*/(default|env_sounds|fire|tnt|doors|carts|xpanes|player)_",
    "lmms-common": r"^.*/samples/(misc/|effects/|instruments/|latin/)?",
}  # fmt: skip


def items(tree: Tree) -> Iterator[Item]:
    """Effects of every package that is laid out as folders of named files, then the other three layouts."""
    for package, (under, context, policy, skip) in _PLACES.items():
        for relpath, path in tree.audio(package, under):
            if re.search(skip, f"/{relpath}") or (package == "hedgewars-data" and "/Music/" in relpath):
                continue
            name = re.sub(_CUT.get(package, r"^.*/"), "", relpath).rpartition(".")[0]
            yield _item(package, relpath, path, words_of(name), context, policy)
    yield from _opensfx(tree)
    yield from _keys(tree)


def _item(package, relpath, path, words, context, policy, human="", subject="") -> Item:
    label = classify(words)
    subject = subject or readable(words) or "an unnamed effect"
    called = table("sounds")["events"][label] if label else {"event": "", "noun": ""}
    facts = {"subject": subject, "event": called["event"], "event_noun": called["noun"], "context": context}
    tags = tuple(dict.fromkeys([subject.lower(), *([label.replace("_", " ")] if label else []), "sound effect"]))
    return Item(
        package=package, relpath=relpath, path=path, kind="sound", source="mini-sounds", human=human, facts=facts,
        group=f"sounds:{package}", policy=policy, tags=tags, labels={"sound_event": label} if label else {},
    )  # fmt: skip


def _opensfx(tree: Tree) -> Iterator[Item]:
    """One sentence per sound: ``"Ship horn". Original ... by ... License: ...``."""
    package = "openttd-opensfx"
    index = tree.find(package, "index.json")
    if index is None:
        return
    sentences = json.loads(index.read_text(encoding="utf-8"))
    for relpath, path in tree.audio(package):
        title = re.match(r'"(.*?)"\.', sentences.get(path.name, ""))
        if not title or "Unused" in title[1] or re.search(r"(Good|Bad) Year", title[1]):
            continue
        human = title[1].replace(" (1)", "").replace(" (2)", "").replace(" (3)", "")
        subject = human.removeprefix("Toyland: ").removeprefix("Tropical: ")
        subject = subject[:1].lower() + subject[1:]
        words = words_of(human.removeprefix("Toyland: "))
        yield _item(package, relpath, path, words, "a transport game", "test", human=human, subject=subject)


_ROWS = {
    0x02: "1234567890", 0x10: "qwertyuiop", 0x1E: "asdfghjkl", 0x2C: "zxcvbnm",
}  # fmt: skip
_KEYS = {start + i: f"the {key.upper()} key" for start, keys in _ROWS.items() for i, key in enumerate(keys)}
_KEYS |= {0x01: "the escape key", 0x0E: "backspace", 0x0F: "the tab key", 0x1C: "the enter key", 0x39: "the space bar"}


def _keys(tree: Tree) -> Iterator[Item]:
    """Key presses and releases of one mechanical keyboard, named by scan code: ``1e-1.wav`` is A going down."""
    package = "bucklespring-data"
    for relpath, path in tree.audio(package, "/wav/"):
        match = re.fullmatch(r"([0-9a-f]{2})-([01])", path.stem)
        if not match:
            continue
        key = _KEYS.get(int(match[1], 16), "a key")
        move = "pressed" if match[2] == "1" else "released"
        facts = {
            "subject": f"{key} being {move} on a mechanical keyboard", "event": "a keyboard click",
            "event_noun": "a keyboard click", "context": "an office",
        }  # fmt: skip
        yield Item(
            package=package, relpath=relpath, path=path, kind="sound", source="mini-sounds", facts=facts,
            group=f"key:{match[1]}", policy="hash:10:4", tags=("mechanical keyboard", "typing", f"key {move}"),
        )  # fmt: skip
