"""Sound event detection on frozen frames: mixtures, a frame probe, the polyphonic sound detection score (PSDS).

Dimensions: G settings fitted at once, F frames of all clips in one row, R resamples, A weights of the deviation over
classes; in ``psds`` K thresholds or numbers of false positives, S runs of active frames or stretches, E events, U rises
of a score.
"""
