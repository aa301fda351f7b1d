"""Decoders of untrusted audio: libsndfile, FFmpeg through PyAV, and two raw telephone codecs.

All yield blocks of float32 samples in order. ``data.audio.reader`` chooses among them; ``mix`` mixes the blocks down,
resamples them and enforces the limits.

Dimension letters: n frames of a block, C channels.
"""
