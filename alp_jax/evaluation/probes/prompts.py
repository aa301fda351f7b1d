"""The sentences of zero-shot classification: built in for common tasks and for the published sets, or from a file."""

import dataclasses
import pathlib
from collections.abc import Mapping

from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json


@dataclasses.dataclass(frozen=True)
class Prompts:
    """``templates`` with one ``{}`` each, and ``texts`` for classes whose names do not read well.

    The other names are taken as they are, in lower case if ``lower`` is set.
    """

    templates: tuple[str, ...]
    texts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    lower: bool = False

    def sentences(self, template: str, classes: tuple[str, ...]) -> list[str]:
        """``template`` filled with the words for each class, in the order of ``classes``."""
        return [template.replace("{}", self.texts.get(name) or self._words(name)) for name in classes]

    def _words(self, name: str) -> str:
        words = name.replace("_", " ")
        return words.lower() if self.lower else words


_ANY = ("{}", "a recording of {}", "this is a sound of {}", "{} can be heard")
_EMOTION = ("a person speaking in a {} voice", "{} speech", "{}")
_INSTRUMENT = ("the sound of a {}", "a note played on a {}", "{}")
# tasks whose classes are not words (names of voices, speakers, releases) have no prompts
PROMPTS: Mapping[str, Prompts] = {
    "sound_event": Prompts(("the sound of {}", *_ANY)),
    "drum": Prompts(("a drum sound, {}", "a single hit of a {}", "{}")),
    "instrument": Prompts(_INSTRUMENT),
    "language": Prompts(("a person speaking {}", "speech in {}", "{}")),
    "emotion": Prompts(_EMOTION),
    "tone": Prompts(("a syllable with {}", "{}")),
    "music_genre": Prompts(("{} music", "a piece of {}", "{}")),
    "genre": Prompts(("{} music", "a piece of {}", "{}")),
    "tags": Prompts(_ANY),
    "fsd50k": Prompts(("the sound of {}", *_ANY), lower=True),  # published as Acoustic_guitar
    "vggsound": Prompts(("the sound of {}", *_ANY)),
    "magnatagatune": Prompts(("a piece of music with {}", "{} music", "{}")),
    "crema_d": Prompts(_EMOTION, {"anger": "angry", "disgust": "disgusted", "fear": "fearful"}),
    "nsynth_instrument": Prompts(
        _INSTRUMENT,
        {
            "mallet": "mallet instrument",
            "reed": "reed instrument",
            "string": "string instrument",
            "synth_lead": "synthesizer",
            "vocal": "singing voice",
        },
    ),
}


def read_prompts(file: str | pathlib.Path) -> dict[str, Prompts]:
    """The prompts of ``config.evaluation.prompts``; an empty name gives those of ``PROMPTS``.

    The file is JSON: task -> ``{"templates": ["the sound of {}", ...], "classes": {"label": "words", ...}}``, the
    second part optional. Its tasks replace built-in ones of the same name.

    Raises:
      UserError: the file does not exist or does not have that form.
    """
    known = dict(PROMPTS)
    if not file:
        return known
    if not pathlib.Path(file).is_file():
        raise UserError(f"config.evaluation.prompts: {file} does not exist")
    stored = read_json(file, "prompt file")
    for name, entry in stored.items() if isinstance(stored, dict) else [("the file", stored)]:
        templates, classes = (
            (entry.get(k, {}) for k in ("templates", "classes")) if isinstance(entry, dict) else ({}, {})
        )
        if not isinstance(templates, list) or not templates or not isinstance(classes, dict):
            raise UserError(
                f"{file}: {name} needs a list 'templates', and 'classes', if given, must map labels to words"
            )
        bad = [t for t in templates if not isinstance(t, str) or t.count("{}") != 1]
        if bad:
            raise UserError(f"{file}: {name}: template {bad[0]!r} must contain {{}} exactly once")
        known[name] = Prompts(tuple(templates), {str(label): str(text) for label, text in classes.items()})
    return known
