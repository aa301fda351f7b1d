"""One to four captions per clip: what a person wrote, a tag list, an attribute-rich sentence, and a paraphrase."""

from alp_jax.corpora.captioned.mini.grammar import expand
from alp_jax.corpora.captioned.mini.item import Item

ATTRIBUTES = {
    "speech": (
        "[{voice} speaking|speech by {voice}|{voice} talking] in {language}, a {length} {style}, {channel} audio",
        "{channel} [recording|audio] of {voice} [speaking|talking] {language}: a {length} {style}",
        "{language} speech, {voice}, a {style}[; the audio is {channel}|]",
        "a {length} {style} in {language}, [spoken|read|said] by {voice}, {channel} audio",
        "a {length} {language} {style}[, {channel} audio|]; the speaker is {voice}",
    ),
    "sound": (
        "[a {length}|one {length}] [sound effect|recording] of {subject}, {event}, {channel}",
        "{event}: {subject}, [{length} clip|{length} recording], {channel}",
        "{length} [sound|noise] of {subject}, [from|as in] {context}, {channel}",
        "{channel} {length} [clip|sample] of {subject}",
    ),
    "drum": (
        "[a|one] {length} one-shot of {drum} [from|out of] {kit}, {channel} audio",
        "{drum} from {kit}, {played}, {length}, {channel} audio",
        "[a single|one] hit on {drum}, {played}, {kit}",
        "[percussion|drum] sample: {drum}, {kit}, {length}, {channel} audio",
        "{name} from {kit}, {played}[, {length}|]",
        "{name}, [a|one] {length} sample of {kit}",
    ),
    "music": (
        "[ten seconds|a ten second excerpt] [of|from] {style}, [the {part} of|from the {part} of] the track, {channel}",
        "{style} by {artist}, {part} of the piece, {channel}",
        "{style} [for|made for] {purpose}, the {part} of a [track|piece], {channel}",
        "{channel} [excerpt|segment] of {style}, [taken from|from] the {part} of a {track_length} track",
    ),
}

PARAPHRASE = {
    "speech": (
        '{voice} says[: |, ]"{text}"',
        '{voice} [can be heard saying|is saying|announces] "{text}"[ in {language}|]',
        '"{text}", [says|in the voice of] {voice}[, in {language}|]',
        '[someone|{voice}] [speaks {language} and says|says in {language}] "{text}"',
        '[in {language}, |]{voice} [says|is saying] [something like |]"{gloss}"[| in {language}]',
        '[someone|a person] [speaking {language}|talking in {language}] says "{gloss}"',
        '[a {length} utterance|a {length} line|a {style}] in {language} that means "{gloss}"',
        'the {language} for "{gloss}", [spoken|said] by {voice}',
        "[this is|here is|you hear] {voice} [speaking {language}|talking in {language}]",
        '{voice} [pronounces|says|reads out] the {unit} "{text}"[ in {language}|, which is {language}|]',
        '[the|a] {language} {unit} "{text}", [spoken|said] [by {voice}|aloud]',
        "[a person says|a speaker says] {syllable} with {tone}, in {language}",
        "the {language} syllable {syllable}, {tone}[, spoken by {voice}|]",
        "{voice} [says|utters] [the|a] {language} syllable {syllable}[, {tone}|]",
    ),
    "sound": (
        "[the sound of|we hear|you can hear|a recording of|listen:|] {subject}",
        "{subject} [is heard|can be heard|is playing|sounds] [briefly|]",
        "[suddenly|now|here comes|first of all] {event_noun}: {subject}",
        "{event_noun}[, {subject}|; it is {subject}|]",
        "{event_noun} [in|from|as heard in] {context}",
        "[a sound that could be|this sounds like|probably] {subject}",
        "[in {context}, |]{subject} [rings out|is audible|makes a sound]",
        "{event}, [more exactly|namely|in this case] {subject}",
    ),
    "drum": (
        "[someone hits|a drummer plays|a hit on|the sound of|listen to] {drum}",
        "{drum} is [struck|played|hit] {played}",
        "[a single|one] [hit|stroke|sound] of {drum}[ on its own| alone|]",
        "[this is|here is] {drum} from {kit}",
        "[dry|isolated|short] [sample|hit|sound] of {drum}[, {kit}|]",
        "[percussion|a percussion sound]: {drum}, {played}",
    ),
    "music": (
        "[{style} plays|we hear {style}|{style} is playing|some {style}][ in the background|]",
        "[a piece|music|a tune] [called|titled|named] {title}[, {style}|]",
        "[music|a theme] for {purpose}[, {style}|]",
        "{artist} [plays|performs] {style}",
        "[the {part}|the {part} part] of {title}[ by {artist}|], {style}",
        "[an excerpt|a part|a cut] of {style} [suited to|meant for] {purpose}",
        "[a|one] {loop} [loop|pattern|groove][ that repeats|]",
    ),
}


def make(item: Item, clip_id: str) -> tuple[str, ...]:
    """The captions of one clip, without repeats, the person's own words first; the same for the same id and facts."""
    texts = [
        " ".join(item.human.split()),
        ", ".join(item.tags),
        expand(ATTRIBUTES[item.kind], item.facts, f"{clip_id}/attributes"),
        expand(PARAPHRASE[item.kind], item.facts, f"{clip_id}/paraphrase"),
    ]
    unique = {" ".join(text.casefold().split()).strip(" ."): text for text in reversed(texts) if text}
    return tuple(reversed(unique.values()))


def length_word(seconds: float) -> str:
    """A length class in words, known from the file header."""
    for limit, word in ((0.5, "very short"), (2.0, "short"), (6.0, "few-second"), (15.0, "medium-length")):
        if seconds < limit:
            return word
    return "long"


def channel_words(sample_rate: int, channels: int) -> str:
    """How the file was recorded, in words: bandwidth and stereo."""
    if sample_rate <= 8000:
        return "telephone quality"
    if sample_rate <= 11025:
        return "low bandwidth"
    if sample_rate <= 22050:
        return "wideband mono" if channels == 1 else "wideband stereo"
    return "full-band mono" if channels == 1 else "full-band stereo"
