"""Acted game voices: fifteen personas say the same sixty lines.

Label: ``persona`` (line-disjoint: the group is the line, over all personas) and, for training lines in languages of
the language probe, ``language``. ``voices.json`` lists who speaks, what the lines say and how.
"""

import re
from collections.abc import Iterator

from alp_jax.corpora.captioned.mini.item import NAMES, PROBED, Item, Tree, table

POLICY = "rank:hedgewars-lines:20:4"


def items(tree: Tree) -> Iterator[Item]:
    """Every voice line of hedgewars-data."""
    package, tables = "hedgewars-data", table("voices")
    mood_of = {line: mood for mood, lines in tables["moods"].items() for line in lines.split()}
    for relpath, path in tree.audio(package, "/Sounds/voices/"):
        pack = path.parent.name
        if pack not in tables["personas"]:
            continue
        person, code = tables["personas"][pack]
        line = re.sub(r"\d+$", "", path.stem.lower())
        text, wordless = tables["lines"].get(line, f"{line.capitalize()}!"), tables["wordless"].get(line, "")
        mood = mood_of.get(line, "")
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
