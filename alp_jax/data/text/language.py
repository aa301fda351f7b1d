"""Which captions are not in English, by script and by py3langid (Lui and Baldwin 2012, Barbaresi): numpy and 5 MB.

Short texts are hard: of 89,000 captions of AudioCaps, Clotho and SoundBible, all in English, 1% get another most
probable language, but only 0.03% one that is more probable than all others together. Only those count, so that a
caption of a word or two ("Regen") is taken for English.
"""

import functools
import unicodedata
from collections.abc import Iterable

from py3langid.langid import MODEL_FILE, LanguageIdentifier

_SURE = 0.5
OTHER_SCRIPT = "another script"


@functools.cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@functools.lru_cache(maxsize=4096)
def _is_latin(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith("LATIN")


def latin(text: str) -> bool:
    """At least half of the letters are Latin, as those of a text without letters are."""
    if text.isascii():
        return True
    letters = [_is_latin(letter) for letter in text if letter.isalpha()]
    return 2 * sum(letters) >= len(letters)


def foreign(texts: Iterable[str]) -> list[str]:
    """For each text "" if it may be English, else its ISO 639 code, or OTHER_SCRIPT if that is all that is certain."""
    found = []
    for text in texts:
        code, probability = _identifier().classify(text.lower())
        sure = probability >= _SURE
        if latin(text):
            found.append(code if sure and code != "en" else "")
        else:
            found.append(code if sure and code != "en" else OTHER_SCRIPT)
    return found
