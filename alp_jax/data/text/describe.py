"""Statistics of a stream of captions, and the lines that ``alp data captions`` prints about them."""

from collections.abc import Callable, Iterator

from alp_jax.config.schema import DataConfig
from alp_jax.core.progress import Progress
from alp_jax.data.text.normalise import clean
from alp_jax.data.text.open import open_tokenizer, tokenizer_path
from alp_jax.data.text.statistics import CaptionStatistics

_HEAD = (
    f"  {'':<24}{'captions':>10}{'clips':>10}{'words/caption':>16}{'distinct':>10}{'Distinct-1/2/3':>20}"
    f"{'of 1000 captions':>20}{'repeated':>8}{'by':>8}{'not':>8}{'with':>8}",
    f"  {'':<24}{'':>10}{'':>10}{'5 / 50 / 95 %':>16}{'words':>10}{'%':>20}"
    f"{'%':>20}{'%':>8}{'words':>8}{'English':>8}{'defects':>8}",
)
_LISTED = 3  # openings and repeated captions
_LONGEST = 120  # characters of an example


def describe(stream, tokens: Callable[[str], int] | None, budget: int) -> dict:
    """The result of ``CaptionStatistics`` for a stream, and the rows that the stream rejected.

    Args:
      stream: one of ``corpora.caption_streams``; yields (source, split, clip, captions) and has ``clips`` and
        ``rejected``.
      tokens, budget: see ``CaptionStatistics``.
    """
    statistics = CaptionStatistics(tokens, budget)
    with Progress("read captions", stream.clips, "clips") as progress:
        for entry in stream:
            statistics.add(*entry)
            progress.update()
    return statistics.result() | {"rejected": stream.rejected}


def token_counter(folder: str | None, tokenizer: str, text_clean: str) -> Callable[[str], int] | None:
    """A function that counts the tokens of a caption after its clean-up; None without a tokenizer.

    Args:
      folder: of a data set; its own tokenizer, if it has one, is used when ``tokenizer`` is empty.
    """
    if not folder and not tokenizer:
        return None
    path = tokenizer_path(folder or ".", DataConfig(tokenizer=tokenizer))
    if not tokenizer and not path.exists():
        return None
    model = open_tokenizer(path)
    return lambda caption: len(model.encode(clean(caption, text_clean)))


def caption_lines(result: dict) -> Iterator[str]:
    """The result of ``describe`` as text: a row for each source, then the findings in each."""
    rows = dict(result["sources"]) | ({"all": result["all"]} if len(result["sources"]) > 1 else {})
    yield from _HEAD
    yield from (_row(name, row) for name, row in rows.items())
    yield f"distinct words: {result['definitions']['distinct_words']}"
    for name, row in result["sources"].items():
        yield from _findings(name, row, result["artefacts"])
    for reason, entry in sorted(result["rejected"].items()):
        yield f"rows without a clip: {entry['count']} {reason} ({entry['meaning']}), such as {entry['rows'][0]}"


def _row(name: str, row: dict) -> str:
    captions, words, equal = row["captions"], row["words_per_caption"], row["at_equal_size"]
    own = " / ".join(
        f"{'~' * ('standard_error' in entry)}{100 * entry['share']:.1f}" for entry in row["distinct_n"].values()
    )
    same = " / ".join(f"{100 * share:.1f}" for share in equal.values()) if equal else "-"
    repeated, english = row["duplicates"], row["not_english"]["captions"]
    shares = (repeated["exact"], repeated["normalised"], english, row["defects"])
    return (
        f"  {name:<24}{captions:>10}{row['clips']:>10}{_spread(words):>16}{row['distinct_words']:>10}"
        f"{own:>20}{same:>20}" + "".join(f"{100 * n / captions:>8.2f}" for n in shares)
    )


def _findings(name: str, row: dict, kinds: dict) -> Iterator[str]:
    """What does not fit in the table: splits, tokens, and artefacts and repetition with examples."""
    captions = row["captions"]
    splits = (f"{split} {counts['captions']} of {counts['clips']} clips" for split, counts in row["splits"].items())
    yield f"{name}: captions {', '.join(splits)}"
    if "tokens_per_caption" in row:
        tokens = row["tokens_per_caption"]
        cut = 100 * tokens["truncated"] / captions
        budget = f"of more than {tokens['budget']}, which training cuts: {cut:.1f}%"
        yield f"  tokens: {_spread(tokens)} (5 / 50 / 95 %); {budget}"
    for artefact, entry in row["artefacts"].items():
        kind, share = kinds[artefact], 100 * entry["captions"] / captions
        meaning = f"{'defect' if kind['defect'] else 'style'}: {kind['meaning']}"
        yield f"  {share:.3f}% {artefact} ({meaning}): {_quoted(entry['examples'][0])}"
    for example in row["not_english"]["examples"]:
        yield f"  not English ({example['language']}): {_quoted(example['text'])}"
    common = ", ".join(f"{_quoted(o['text'])} {100 * o['captions'] / captions:.1f}%" for o in row["openings"][:_LISTED])
    yield f"  most common openings: {common}"
    if row["most_repeated"]:
        common = ", ".join(f"{_quoted(o['text'])} {o['captions']} times" for o in row["most_repeated"][:_LISTED])
        yield f"  most repeated: {common}"


def _spread(quantiles: dict) -> str:
    return " / ".join(str(quantiles[q]) for q in ("5", "50", "95"))


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "...")
