"""Finds captions that are not in English, by script and by py3langid (Lui and Baldwin 2012; Barbaresi).

Short texts are hard. Of 89,000 captions of AudioCaps, Clotho and SoundBible, all in English, 1% have another language
as the most probable one, but only 0.03% one that is more probable than all others together. Only the latter count as
foreign, so that a caption of one or two words ("Regen") passes for English.
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
    """Whether at least half of the letters are Latin; true of a text without letters."""
    if text.isascii():
        return True
    letters = [_is_latin(letter) for letter in text if letter.isalpha()]
    return 2 * sum(letters) >= len(letters)


def foreign(texts: Iterable[str]) -> list[str]:
    """For each text: "" if it may be English, its ISO 639 code if that is certain, or OTHER_SCRIPT."""
    codes = []
    for text in texts:
        code, probability = _identifier().classify(text.lower())
        sure = probability >= _SURE
        if latin(text):
            codes.append(code if sure and code != "en" else "")
        else:
            codes.append(code if sure and code != "en" else OTHER_SCRIPT)
    return codes
