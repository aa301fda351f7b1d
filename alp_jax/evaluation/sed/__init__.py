"""Sound event detection on frozen frames: mixtures, a frame probe, PSDS.

Dimensions: G settings fitted at once, F frames of several clips in a row, R resamples; in ``psds`` K thresholds or
false positives, S runs of active frames, E events, U rises of a score, A weights of the deviation over classes.
"""
