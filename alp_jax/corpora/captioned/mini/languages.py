"""Language codes as the packages write them, and the languages of the language probe."""

NAMES = {
    "be": "Belarusian", "cs": "Czech", "de": "German", "en": "English", "en_gb": "English", "es": "Spanish",
    "fr": "French", "it": "Italian", "nl": "Dutch", "pl": "Polish", "ru": "Russian", "uk": "Ukrainian",
    "zh": "Mandarin Chinese",
}  # fmt: skip

PROBED = ("en", "fr", "pl", "ru", "uk")
"""Languages with speech from at least two packages, so that training and test voices come from different ones."""
