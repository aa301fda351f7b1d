"""Text in captions that does not describe sound: traces of the language models and scripts that wrote them.

Every pattern means the same to RE2 as to ``re``: Arrow, which uses RE2, scans millions of captions for all patterns at
once, and ``re`` then tells which pattern matched in the few that hit. A *defect* should not be in a caption; *style* is
wording that gives a generator away but may be correct.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_RECORDING = r"(?:audio|sound|clip|recording|track|sample|file)(?: (?:clip|recording|file|track|sample))?"
_SHOWS = (
    r"(?:contains?|consists? of|features?|includes?|depicts?|captures?|presents?|describes?|portrays?|showcases?|"
    r"conveys?|has|is (?:a recording )?of)"
)
_LONGEST_LOOP, _ROUNDS = 4, 4  # words; repeats: people do write "beep beep beep"


class Artefact(NamedTuple):
    """A kind of artefact: what it means, whether it is a defect, and the pattern, matched without regard to case."""

    meaning: str
    defect: bool
    pattern: str


ARTEFACTS = {
    "refusal": Artefact(
        "the model says that it cannot do the task",
        True,
        r"^\W*(?:i['\u2019]m sorry|i am sorry|sorry,|i apologi[sz]e|unfortunately,? (?:i|there|the|no)\b)|"
        r"\bi(?: am|['\u2019]m)? (?:cannot|can['\u2019]t|can not|unable to|not able to|don['\u2019]t have) "
        r"(?:provide|generate|create|describe|determine|identify|hear|listen|access|process|assist|fulfil|help|enough)",
    ),
    "self_reference": Artefact(
        "the model talks about itself",
        True,
        r"\bas an? (?:ai|artificial intelligence|(?:large |audio )?language model|(?:ai|text|virtual)[- ]\w+)\b|"
        r"\bi(?: am|['\u2019]m) an? (?:\w+ )?(?:ai|language model|assistant)\b|\bchatgpt\b|\bopenai\b|\bgpt-?[2-5]\b",
    ),
    "chat_reply": Artefact(
        "a reply to a request: 'Sure, here is'",
        True,
        r"^\W*(?:sure|certainly|of course|absolutely|okay|ok|great|no problem)\b *[,!.:;-]|"
        r"^\W*here(?:['\u2019]s| is| are) (?:an?|the|your|my|one|some|\w+) (?:\w+ ){0,3}(?:captions?|descriptions?|"
        r"sentences?|summary|summaries|versions?|rewrit\w*|examples?)\b|"
        r"\b(?:let me know if|i hope this|feel free to)\b",
    ),
    "label": Artefact(
        "a label left over from the prompt: 'Caption:'",
        True,
        r"(?:^|\n)\W*(?:(?:final|audio|sound|music|short|detailed|new|rewritten|possible|generated|output) )?"
        r"(?:captions?|descriptions?|answers?|outputs?|responses?|assistant|summary|prompt|question|input|q|a|"
        r"instruction)\W{0,3}(?:#?\d+)?\W{0,2}:",
    ),
    "prompt": Artefact(
        "words about the task instead of the sound: 'based on the given tags'",
        True,
        r"\b(?:based on|according to|given|from|using) (?:the|these|those|this)? ?(?:provided|given|above|following|"
        r"supplied) (?:\w+ )?(?:tags?|labels?|metadata|keywords?|information|captions?|descriptions?|details?|text|"
        r"context|audio|data)\b|\bword (?:limit|count)\b|\b(?:in|as|into) (?:one|a single) sentence\b|"
        r"\b(?:no more|fewer|less) than \w+ words\b|\baudio ?caption(?:s|ing)?\b|"
        r"\bthe (?:caption|prompt|json|metadata)\b",
    ),
    "placeholder": Artefact(
        "only a stand-in for a missing text, or a slot that was not filled",
        True,
        r"^\W*(?:n/?a|none|null|nan|undefined|unknown|unlabell?ed|untitled|todo|tbd|test|"
        r"no (?:captions?|descriptions?|audio|sounds?)(?: (?:available|provided|found|given|present))?)?\W*$|"
        r"\{[a-z_][a-z_ ]*\}|\[(?:name|label|tag|insert|your|sound|object|caption)[a-z_ ]*\]|"
        r"<(?:unk|mask|pad|eos|bos)>",
    ),
    "markup": Artefact(
        "formatting, entities, links or chat tokens",
        True,
        r"\*\*|^\s*(?:[-*\u2022]|#+|\d+[.)])\s+\S|```|&(?:amp|quot|lt|gt|nbsp|apos|#\d+);|https?://|www\.|"
        r"</?[a-z][a-z0-9]*(?: [^<>]*)?/?>|<\||\[/?inst\]|\\[nt\"]|^###",
    ),
    "wrapped": Artefact(
        "quotation marks around the whole caption", True, r"^\s*[\"\u201c][^\"\u201c\u201d]*[\"\u201d]\s*$"
    ),
    "printed_list": Artefact(
        "a list as a program prints it, instead of the captions in it",
        True,
        r"^\s*[\[(]\s*['\"](?s:.*)['\"]\s*,?\s*[\])]\s*$",
    ),
    "cut_off": Artefact(
        "ends mid-sentence: with an article, a conjunction, a preposition that needs a noun, or a comma",
        True,
        r"(?:\s(?:an?|the|and|or|of|while|their|its|into|during)|,)\s*$",
    ),
    "wrong_encoding": Artefact(
        "wrongly decoded or invisible characters",
        True,
        r"\u00c3[\u0080-\u00bf]|\u00e2\u20ac|\u00c2[\u00a0-\u00bf]|\ufffd|[\x00-\x08\x0e-\x1f\x7f\u200b\ufeff]",
    ),
    "word_loop": Artefact("the same words four or more times in a row", True, ""),
    "audio_contains": Artefact(
        "begins by mentioning the recording: 'The audio contains'",
        False,
        rf"^\W*(?:in )?(?:the|this|an?) (?:\w+ )?{_RECORDING},? {_SHOWS}\b|"
        rf"^\W*(?:this|it) is an? (?:\w+ )?{_RECORDING}\b|"
        rf"^\W*(?:in|throughout) (?:the|this) (?:\w+ )?{_RECORDING}\b",
    ),
    "interpretation": Artefact(
        "says what the sound suggests or evokes",
        False,
        r"\b(?:suggest(?:s|ing)|indicat(?:es|ing)|evok(?:es|ing)|convey(?:s|ing)|impl(?:ies|ying)|"
        r"(?:creat|giv|add)(?:es|ing) (?:\w+ ){0,4}(?:sense|atmosphere|feeling|ambiance|ambience|mood|impression))\b",
    ),
    "unsure": Artefact(
        "says that it is not sure",
        False,
        r"\b(?:possibly|presumably|perhaps|likely|appears to|seems to|(?:could|may|might) be|"
        r"(?:difficult|hard|impossible) to (?:tell|say|determine|identify|discern)|"
        r"cannot be (?:determined|identified))\b",
    ),
    "listener": Artefact(
        "speaks as, or to, a listener",
        False,
        r"\b(?:i|you|we)(?: can| could| may| might)?(?: also| clearly)? hear\b|"
        r"\bthe listener (?:can|could|may|might|hears)\b|^\W*(?:i|we) (?:think|believe)\b",
    ),
}
DEFECTS = tuple(name for name, artefact in ARTEFACTS.items() if artefact.defect)


def loops(words: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Captions in which the same one to four words occur four or more times in a row.

    Args:
      words: int[W], the numbers of the words of many captions, concatenated. owner: int[W], the caption of each word.

    Returns:
      int[], the captions concerned, sorted and distinct.
    """
    looping = []
    for period in range(1, _LONGEST_LOOP + 1):
        if len(words) < _ROUNDS * period:
            break
        same = words[period:] == words[:-period]
        same &= owner[period:] == owner[:-period]
        # _ROUNDS repeats of a period are (_ROUNDS - 1) * period consecutive words that equal the one a period later
        runs = np.concatenate(([0], np.cumsum(same)))
        needed = (_ROUNDS - 1) * period
        full = runs[needed:] - runs[:-needed] == needed
        looping.append(owner[np.flatnonzero(full)])
    return np.unique(np.concatenate(looping)) if looping else np.zeros(0, np.int64)


@functools.cache
def _compiled() -> tuple[str, dict[str, re.Pattern]]:
    def spelt_out(pattern: str) -> str:  # RE2 has no \\uXXXX escapes
        return re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), pattern)

    patterns = {name: spelt_out(artefact.pattern) for name, artefact in ARTEFACTS.items() if artefact.pattern}
    anywhere = "|".join(f"(?:{pattern})" for pattern in patterns.values())
    return anywhere, {name: re.compile(pattern, re.IGNORECASE) for name, pattern in patterns.items()}


def find(captions: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yields (position in ``captions``, key of ARTEFACTS) for everything but word loops, in order of position."""
    anywhere, each = _compiled()
    hits = pc.match_substring_regex(pa.array(captions, pa.string()), anywhere, ignore_case=True)
    for position in np.flatnonzero(hits.to_numpy(zero_copy_only=False)):
        for name, pattern in each.items():
            if pattern.search(captions[position]):
                yield int(position), name
