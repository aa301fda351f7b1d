"""Reasons why a file gives no sound, and notes about files that do."""

REASONS = {
    "missing": "no such file, or no audio in the record",
    "unreadable": "the file exists but cannot be read, or may not be",
    "not_a_file": "a folder, pipe or device",
    "empty": "a file of zero bytes",
    "not_audio": "no known audio format inside",
    "no_channel": "a channel that the file does not have",
    "unsupported": "a container or encoding outside the allow-list, or too many channels",
    "corrupt": "cut short or undecodable",
    "bad_rate": "a sample rate outside 4 to 384 kHz",
    "bad_scale": "float samples beyond the range of 32-bit integers",
    "zero_length": "audio without samples, or a start beyond the end of the file",
    "too_short": "shorter than min_seconds",
    "too_long": "longer than max_seconds",
    "too_large": "more bytes than the limit for one file",
    "too_many_samples": "more samples over all channels than one clip may have, 2^28",
    "non_finite": "NaN or infinity among the samples",
    "silent": "nothing above -80 dBFS, or nothing but a constant",
    "decoder_crashed": "the decoder process died or ran out of memory",
    "decoder_timeout": "the decoder did not finish in time",
}
NOTES = {
    "channels_cancel": "their mean has less than a tenth of the power it would have if unrelated: the loudest was used",
    "rescaled": "samples far above full scale, such as integers stored as floats: divided by 2^15, 2^23, 2^31 "
    "or the peak",
    "wrong_header": "the header states a different length: what can be decoded is used",
    "longer_than_stated": "the file is longer than its row states, by more than 1 s and 10 %",
    "shorter_than_stated": "the file is shorter than its row states, by more than 1 s and 10 %",
}


class BadAudio(Exception):
    """A file that cannot become a clip; ``reason`` is a key of REASONS, ``detail`` what is wrong with this one."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail
