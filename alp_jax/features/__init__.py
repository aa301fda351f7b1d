"""Log-mel features and SpecAugment, on device.

Letters at the end of a name are the dimensions of an array, in order; a number is a dimension of that size.
    B  clips of a batch                                 K  bins of the power spectrum, F those of the mel scale
    S  samples, N with mirrored edges, W of a window    P  positions along time or frequency, N hidden spans
    T  frames, C chunks of them
"""
