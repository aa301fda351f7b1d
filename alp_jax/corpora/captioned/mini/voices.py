"""Acted game voices: fifteen personas say the same sixty lines.

Label: ``persona`` (line-disjoint: the group is the line, over all personas) and, for training lines in languages of
the language probe, ``language``.
"""

import re
from collections.abc import Iterator

from alp_jax.corpora.captioned.mini.item import Item, Tree
from alp_jax.corpora.captioned.mini.languages import NAMES, PROBED

POLICY = "rank:hedgewars-lines:20:4"
_PERSONAS = {
    "British": ("a British character", "en"), "Classic": ("a squeaky cartoon character", "en"),
    "Default": ("a cartoon hedgehog", "en"), "Default_es": ("a Spanish-speaking cartoon character", "es"),
    "Default_pl": ("a Polish cartoon character", "pl"), "Default_ru": ("a cartoon character speaking Russian", "ru"),
    "Default_uk": ("a Ukrainian cartoon character", "uk"), "HillBilly": ("a hillbilly with a drawl", "en"),
    "Mobster": ("a mobster", "en"), "Pirate": ("a pirate", "en"), "Robot": ("a robot voice", "en"),
    "Russian": ("a character with a Russian accent", "en"), "Russian_pl": ("a rough Polish character", "pl"),
    "Singer": ("a singing character", "en"), "Surfer": ("a laid-back surfer", "en"),
}  # fmt: skip
_LINES = {
    "byebye": "Bye bye!", "comeonthen": "Come on then!", "cutitout": "Cut it out!", "enemydown": "Enemy down!",
    "firstblood": "First blood!", "flyaway": "Fly away!", "gonnagetyou": "Gonna get you!", "illgetyou": "I'll get you!",
    "justyouwait": "Just you wait!", "leavemealone": "Leave me alone!", "nooo": "Nooo!", "ohdear": "Oh dear!",
    "runaway": "Run away!", "sameteam": "Same team!", "solong": "So long!", "takecover": "Take cover!",
    "thisoneismine": "This one is mine!", "uh-oh": "Uh-oh!", "watchit": "Watch it!", "watchthis": "Watch this!",
    "whatthe": "What the...", "yessir": "Yes, sir!", "youllregretthat": "You'll regret that!",
    "firepunch": "Fire punch!", "jump": "Hop!", "hmm": "Hmm...",
}  # fmt: skip
_WORDLESS = {
    "laugh": "laughing", "ooff": "a grunt of pain", "ow": "a cry of pain", "ouch": "a cry of pain",
    "poisoncough": "coughing", "poisonmoan": "moaning", "jump": "the effort of a jump", "nooo": "a long cry of despair",
}  # fmt: skip
_MOODS = {
    "triumphant": "amazing brilliant excellent flawless victory enemydown firstblood yessir",
    "threatening": "comeonthen fire firepunch gonnagetyou illgetyou justyouwait revenge watchthis kamikaze "
    "youllregretthat",
    "dismayed": "bugger drat missed nooo ohdear oops uh-oh whatthe sameteam traitor",
    "pained": "ooff ow ouch poisoncough poisonmoan",
    "frightened": "incoming leavemealone runaway takecover hurry cutitout",
    "mocking": "boring coward nutter stupid laugh",
}
_MOOD_OF = {line: mood for mood, lines in _MOODS.items() for line in lines.split()}


def items(tree: Tree) -> Iterator[Item]:
    """Every voice line of hedgewars-data."""
    package = "hedgewars-data"
    for relpath, path in tree.audio(package, "/Sounds/voices/"):
        pack = path.parent.name
        if pack not in _PERSONAS:
            continue
        person, code = _PERSONAS[pack]
        line = re.sub(r"\d+$", "", path.stem.lower())
        text, wordless = _LINES.get(line, f"{line.capitalize()}!"), _WORDLESS.get(line, "")
        mood = _MOOD_OF.get(line, "")
        facts = {"voice": person, "language": NAMES[code], "style": f"{mood} game voice line".strip()}
        if not wordless:
            facts["text" if code == "en" else "gloss"] = text
        human = f"{person}, {wordless}" if wordless else text if code == "en" else f"{text} (in {NAMES[code]})"
        tags = ("speech", NAMES[code], person.removeprefix("a "), "game voice", *([mood] if mood else []))
        yield Item(
            package=package, relpath=relpath, path=path, kind="speech", source="mini-personas", human=human,
            group=f"hedgewars-line:{line}", policy=POLICY, facts=facts, tags=tags, labels={"persona": pack},
            train_labels={"language": NAMES[code]} if code in PROBED else {},
        )  # fmt: skip
