"""Audio files to samples, and samples to fingerprints.

Dimension letters: n samples of a sound, T frames and F frequency bins of a spectrogram; k landmarks of a sound.
"""
