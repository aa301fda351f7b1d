"""Decoders of untrusted audio: libsndfile, FFmpeg through PyAV, and two raw telephone codecs.

All give blocks of float32 samples, in order, and stop by themselves; ``data.audio`` chooses among them, mixes down,
resamples and holds the limits.
"""
