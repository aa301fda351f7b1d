"""README.md of the folders that are handed to other toolboxes: how to load them and where they differ from here."""

from typing import Any

_AUDEN = """# {title}

{parameters} parameters (run {run}, step {step}, {objective} objective), as a folder of the Auden toolbox:

```python
from auden.auto import AutoModel
model = AutoModel.from_pretrained(".")
```

Read back, {tensors} tensors are equal bit by bit; over {clips} clips, each by itself, the largest difference is
{frames:.1e} for frames (allowed {tolerance:.0e}; checked with {checked}).

- A clip in a batch with longer ones comes out differently there, since padding leaks into it: by the toolbox's own way
  of padding. Clips by themselves do not.
{lines}"""
_CLAP = "- Texts are cut to 30 tokens there, special ones included; the run was trained with up to {budget}.\n"
_BINS = "- The encoder takes {bins} mel bins; the toolbox extracts 80 unless it is given features.\n"
_TOKENIZER = (
    "- tokenizer.json gives the ids of the run's tokenizer: compared on {compared} texts, {differ} of them differed.\n"
)
_UNIGRAM = "  It is not proved for these, and not always equal:\n"
_HF = """# Text tower

{parameters} parameters (run {run}, step {step}, {objective} objective), as a folder of transformers:

```python
from transformers import AutoTokenizer, BertModel
tokenizer, model = AutoTokenizer.from_pretrained("."), BertModel.from_pretrained(".", add_pooling_layer=False)
```

There is no pooler: the vector of the first token stands for the text. Read back, {tensors} tensors are equal bit by
bit; over {texts} captions the largest difference is {hidden:.1e} (allowed {tolerance:.0e}; checked with {checked}).
{lines}"""
_TITLES = {"zipformer": "Audio encoder", "clap": "Audio-text model", "audio-caption": "Caption model"}


def auden_readme(origin: dict[str, Any], kind: str, found: dict[str, Any], *, budget: int, bins: int) -> str:
    """For a folder of ``interop.auden``: ``budget`` is the caption length of the run, ``bins`` its features' width."""
    lines = _CLAP.format(budget=budget + 2) if kind == "clap" else ""
    lines += _BINS.format(bins=bins) if bins != 80 else ""
    return _fill(_AUDEN, origin, found, title=_TITLES[kind], lines=lines + _about_ids(found))


def hf_readme(origin: dict[str, Any], found: dict[str, Any]) -> str:
    """For a folder of ``interop.hf_text``."""
    return _fill(_HF, origin, found, lines="\n" + _about_ids(found))


def _about_ids(found: dict[str, Any]) -> str:
    if "tokenizer" not in found:
        return ""
    ids = found["tokenizer"]
    exceptions = [f"  - {what}\n" for what in ids["not_proved"]]
    return _TOKENIZER.format(**ids) + "".join([_UNIGRAM] * bool(exceptions) + exceptions)


def _fill(text: str, origin: dict[str, Any], found: dict[str, Any], **values: str) -> str:
    return text.format(checked=", ".join(found["checked_with"]), **origin, **found, **values)
