"""What the runs were trained on: from the files of ``alp data stats`` and ``alp data captions``."""

from typing import Any

from alp_jax.scaling.report.study import Study

_NGRAMS = ("1", "2", "3")
_SHOWN = 3


def context(study: Study) -> dict[str, Any]:
    """Statistics and caption tables; None for what was not given."""
    return {"stats": study.stats, "captions": study.captions and _caption_tables(study.captions)}


def _caption_tables(result: dict[str, Any]) -> dict[str, Any]:
    sources, everything = result["sources"], result["all"]
    rows = [_row(name, row) for name, row in sources.items()]
    rows += [_row("all", everything)] if len(sources) > 1 else []
    artefacts = [
        _artefact(name, kind, sources, everything)
        for name, kind in result["artefacts"].items()
        if name in everything["artefacts"]
    ]
    return {
        "rows": rows,
        "all": _row("all", everything),
        "has_tokens": "tokens_per_caption" in everything,
        "estimated": any(row["estimated"] for row in rows),
        "artefacts": sorted(artefacts, key=lambda artefact: (not artefact["defect"], -artefact["share"])),
        "repetition": [_repetition(name, row) for name, row in sources.items()],
        "foreign": [
            {"source": name, **example} for name, row in sources.items() for example in row["not_english"]["examples"]
        ][: 2 * _SHOWN],
        "definitions": result["definitions"],
    }


def _row(name: str, row: dict[str, Any]) -> dict[str, Any]:
    captions, grams, equal = row["captions"], row["distinct_n"], row["at_equal_size"]
    tokens = row.get("tokens_per_caption")
    return {
        "source": name,
        "captions": captions,
        "clips": row["clips"],
        "words": row["words_per_caption"],
        "distinct_words": row["distinct_words"],
        "distinct": [grams[n]["share"] for n in _NGRAMS],
        "estimated": any("standard_error" in grams[n] for n in _NGRAMS),
        "equal": [equal[n] for n in _NGRAMS] if equal else [None] * len(_NGRAMS),
        "repeated": row["duplicates"]["exact"] / captions,
        "same_words": row["duplicates"]["normalised"] / captions,
        "not_english": row["not_english"]["captions"] / captions,
        "defects": row["defects"] / captions,
        "tokens": tokens,
        "truncated": tokens["truncated"] / captions if tokens else None,
    }


def _artefact(name: str, kind: dict[str, Any], sources: dict[str, Any], everything: dict[str, Any]) -> dict[str, Any]:
    shares = {
        source: row["artefacts"][name]["captions"] / row["captions"]
        for source, row in sources.items()
        if name in row["artefacts"]
    }
    most = max(shares, key=lambda source: shares[source])
    tallies = everything["artefacts"][name]
    return {
        "name": name.replace("_", " "),
        "meaning": kind["meaning"],
        "defect": kind["defect"],
        "captions": tallies["captions"],
        "share": tallies["captions"] / everything["captions"],
        "most_in": most,
        "most_share": shares[most],
        "example": sources[most]["artefacts"][name]["examples"][0],
    }


def _repetition(name: str, row: dict[str, Any]) -> dict[str, Any]:
    def shown(tallies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"text": each["text"], "share": each["captions"] / row["captions"]} for each in tallies[:_SHOWN]]

    return {
        "source": name,
        "openings": shown(row["openings"]),
        "common": row["common_openings"] / row["captions"],
        "repeated": shown(row["most_repeated"]),
    }
