"""Neural networks as small modules behind plain (init, apply) functions on nested dictionaries.

The letters at the end of a name are the array's dimensions, in order; a number is a dimension of that size.
    B  clips of a batch                                 H  attention heads, d the width of one
    T  audio frames, F mel bins                         Q  queries, S what they attend to
    L  tokens of a text                                 I  taps of a kernel along time, J along frequency
    D  width of a vector, C channels, E the joint space K  beams of a search, W candidates for them, R = B K
    V  vocabulary or list of tags                       P  width of a position's query, or picked entries
    G  groups of channels, heads or rows                N  anything else that is counted: offsets, draws
"""
