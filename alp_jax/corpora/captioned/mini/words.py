"""Single words and letters in seven languages, and Mandarin syllables with tones.

Labels: ``language`` on the word voices that are kept for testing (training speech comes from other packages), ``tone``
and ``speaker`` on the syllables (syllable-disjoint: the group is the syllable without its tone).
"""

import json
import re
from collections.abc import Iterator

from alp_jax.core.hashing import hash64
from alp_jax.corpora.captioned.mini.item import NAMES, PROBED, Item, Tree

_TEST_VOICES = ("en_gb", "fr", "pl", "ru", "uk")
_KEEP_TEST, _KEEP_SYLLABLES = 50, 40  # percent; enough for the probe without filling the test split with single words

_LATIN = ("b", "p", "m", "f", "d", "t", "n", "l", "g", "k", "h", "j", "q", "x", "zh", "ch", "sh", "r", "z", "c", "s")
_INITIALS = dict(zip("ㄅㄆㄇㄈㄉㄊㄋㄌㄍㄎㄏㄐㄑㄒㄓㄔㄕㄖㄗㄘㄙ", _LATIN, strict=True))
_FINALS = {
    "": "", "ㄚ": "a", "ㄛ": "o", "ㄜ": "e", "ㄝ": "ê", "ㄞ": "ai", "ㄟ": "ei", "ㄠ": "ao", "ㄡ": "ou",
    "ㄢ": "an", "ㄣ": "en", "ㄤ": "ang", "ㄥ": "eng", "ㄦ": "er",
    "ㄧ": "i", "ㄧㄚ": "ia", "ㄧㄛ": "io", "ㄧㄝ": "ie",
    "ㄧㄞ": "iai", "ㄧㄠ": "iao", "ㄧㄡ": "iu", "ㄧㄢ": "ian", "ㄧㄣ": "in", "ㄧㄤ": "iang", "ㄧㄥ": "ing",
    "ㄨ": "u", "ㄨㄚ": "ua", "ㄨㄛ": "uo", "ㄨㄞ": "uai", "ㄨㄟ": "ui", "ㄨㄢ": "uan",
    "ㄨㄣ": "un", "ㄨㄤ": "uang", "ㄨㄥ": "ong", "ㄩ": "ü",
    "ㄩㄝ": "üe", "ㄩㄢ": "üan", "ㄩㄣ": "ün", "ㄩㄥ": "iong",
}  # fmt: skip
_TONES = {
    "": ("high level", "a high level tone"), "2": ("rising", "a rising tone"), "3": ("dipping", "a dipping tone"),
    "4": ("falling", "a falling tone"), "1": ("neutral", "the neutral tone"),
}  # fmt: skip


def items(tree: Tree) -> Iterator[Item]:
    """Words and letters of qabcs-data, then syllables of gcin-voice."""
    yield from _words(tree)
    yield from _syllables(tree)


def categories(document: dict) -> dict[str, str]:
    """Sound file name -> category (animals, food, instrument, ...) from a qabcs letter table."""
    category_of = {}
    for entry in document["letters"]:
        for by_category in entry.values():
            for category, word in by_category.items():
                if isinstance(word, dict) and "sound_pic" in word:
                    category_of[word["sound_pic"]] = category
    return category_of


def _words(tree: Tree) -> Iterator[Item]:
    package = "qabcs-data"
    table = tree.find(package, "en/abc1.json")
    category_of = categories(json.loads(table.read_text(encoding="utf-8"))) if table else {}
    for relpath, path in tree.audio(package, "/sounds/"):
        match = re.search(r"/abcs/(\w+)/sounds/(alpha|words)/(.+)\.\w+$", f"/{relpath}")
        if not match or match[1] not in NAMES:
            continue
        code, kind, name = match.groups()
        test = code in _TEST_VOICES
        if test and code != "en_gb" and hash64(1, relpath) % 100 >= _KEEP_TEST:
            continue
        language, text = NAMES[code], name.replace("_", " ")
        unit = "letter" if kind == "alpha" else "word"
        facts = {"voice": "a person", "language": language, "style": f"single {unit}", "text": text, "unit": unit}
        category = category_of.get(path.name, "") if code.startswith("en") else ""
        tags = ("speech", language, f"isolated {unit}", text, *([category] if category else []))
        yield Item(
            package=package, relpath=relpath, path=path, kind="speech", source="mini-words", facts=facts, tags=tags,
            group=f"qabcs-voice:{code}", policy="test" if test else "train",
            labels={"language": language} if test and code.split("_")[0] in PROBED else {},
        )  # fmt: skip


def pinyin(syllable: str) -> str:
    """Romanised bopomofo without the tone: ``ㄊㄢ`` -> ``tan``, ``ㄧㄢ`` -> ``yan``; empty for unknown symbols."""
    initial = _INITIALS.get(syllable[:1], "")
    rest = syllable[1:] if initial else syllable
    if rest not in _FINALS:
        return ""
    final = _FINALS[rest]
    if not final:
        return initial + ("i" if initial in ("zh", "ch", "sh", "r", "z", "c", "s") else "e")
    if initial:
        return initial + (final.replace("ü", "u") if initial in ("j", "q", "x") else final)
    glides = {"i": "yi", "in": "yin", "ing": "ying", "iu": "you", "u": "wu", "ui": "wei", "un": "wen", "ong": "weng"}
    if final in glides:
        return glides[final]
    if final[0] == "ü":
        return "yu" + final[1:]
    return {"i": "y", "u": "w"}.get(final[0], final[0]) + final[1:]


def _syllables(tree: Tree) -> Iterator[Item]:
    package = "gcin-voice"
    for relpath, path in tree.audio(package, "/ogg/"):
        folder, speaker = path.parent.name, path.stem
        match = re.fullmatch(r"([^\d˙]+)(\d?)", folder)
        syllable = pinyin(match[1]) if match else ""
        group = f"gcin-syllable:{syllable}"
        if not syllable or hash64(1, group) % 100 >= _KEEP_SYLLABLES:
            continue
        tone, with_tone = _TONES[match[2]]
        facts = {"voice": "a person", "language": NAMES["zh"], "style": "single syllable", "tone": with_tone}
        facts["syllable"] = f'"{syllable}"'
        yield Item(
            package=package, relpath=relpath, path=path, kind="speech", source="mini-words", group=group,
            policy="hash:12:4", facts=facts, tags=("speech", NAMES["zh"], "syllable", syllable, f"{tone} tone"),
            labels={"speaker": f"gcin {speaker}", "tone": tone},
        )  # fmt: skip
