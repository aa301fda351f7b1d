"""Telephone prompts: one voice per language reads the same prompts, English transcripts for all of them.

Labels: ``speaker`` (prompt-disjoint: the group is the prompt's text, over all languages) and, for training prompts,
``language`` (tested on another package, see words.py).
"""

import gzip
import re
from collections.abc import Iterator

from alp_jax.corpora.captioned.mini.item import NAMES, PROBED, Item, Tree

POLICY = "hash:10:4"
_PACKAGES = {f"asterisk-core-sounds-{code}-g722": code for code in ("en", "es", "fr", "it", "ru")}
_EXTRA = {"asterisk-prompt-it-menardi-wav": "it", "asterisk-prompt-fr-armelle": "fr", "asterisk-prompt-es-co": "es"}
_VOICES = {"f": ("a woman", "female voice"), "m": ("a man", "male voice"), "": ("a person", "voice")}


def transcripts(text: str) -> dict[str, str]:
    """Prompt id -> English text from lines ``id: text``; comments start with a semicolon."""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith(";"))
    return {name.strip(): " ".join(words.split()) for name, words in pairs if words.strip()}


def items(tree: Tree) -> Iterator[Item]:
    """Every prompt of every language that was fetched."""
    found = tree.find("asterisk-core-sounds-en", "core-sounds-en.txt.gz")
    texts = transcripts(gzip.decompress(found.read_bytes()).decode(errors="replace")) if found else {}
    for package, code in {**_PACKAGES, **_EXTRA}.items():
        for relpath, path in tree.audio(package, "/sounds/"):
            voice, _, prompt = relpath.split("/sounds/", 1)[1].rpartition(".")[0].partition("/")
            if package in _EXTRA:
                prompt = next((name for name in _tails(f"{voice}/{prompt}") if name in texts), prompt or voice)
                voice = package.removeprefix("asterisk-prompt-")
            if not prompt.startswith("silence/"):
                yield _item(package, relpath, path, code, voice, prompt, texts.get(prompt, ""))


def _tails(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part]
    return ["/".join(parts[i:]) for i in range(len(parts))]


def _item(package, relpath, path, code, voice, prompt, text) -> Item:
    gender = match[1] if (match := re.search(r"_([fm])_", voice)) else ""
    noise = re.fullmatch(r"\[(.*)\]", text)
    text = re.sub(r"\s*[\[(].*?[\])]", "", text).strip()
    group = f"asterisk-prompt:{re.sub('[^a-z0-9]+', ' ', (text or prompt).lower()).strip()}"
    common = {"package": package, "relpath": relpath, "path": path, "source": "mini-asterisk", "policy": POLICY}
    if noise:
        subject = noise[1].removeprefix("this is a ").removeprefix("this is an ").removeprefix("sound of ")
        facts = {"subject": subject, "event": "telephone signal", "event_noun": "a telephone signal"}
        facts["context"] = "a telephone system"
        return Item(**common, kind="sound", group=group, facts=facts, tags=(subject, "telephone"), human=noise[1])
    person, tag = _VOICES[gender]
    facts = {
        "voice": person,
        "language": NAMES[code],
        "style": "telephone prompt",
        "text" if code == "en" else "gloss": text,
    }
    human = text if code == "en" else f"{text} (in {NAMES[code]})" if text else ""
    tags = ("speech", NAMES[code], tag, "telephone prompt", *_topics(prompt))
    return Item(
        **common, kind="speech", group=group, facts=facts, tags=tags, human=human,
        labels={"speaker": f"asterisk {voice}"}, train_labels={"language": NAMES[code]} if code in PROBED else {},
    )  # fmt: skip


def _topics(prompt: str) -> tuple[str, ...]:
    """What the prompt is about, from its folder or prefix: numbers, letters, voicemail, ..."""
    head = re.split(r"[/-]", prompt)[0]
    known = {
        "digits": "number", "letters": "letter", "phonetic": "spelling alphabet", "vm": "voicemail",
        "conf": "conference call", "confbridge": "conference call", "agent": "call centre", "queue": "waiting queue",
        "dir": "phone directory", "followme": "call forwarding", "dictate": "dictation", "spy": "call monitoring",
        "privacy": "caller privacy", "priv": "caller privacy",
    }  # fmt: skip
    return (known[head],) if head in known else ()
