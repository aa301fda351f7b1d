"""What a frozen encoder is worth: a suite of evaluators, each a kind of task in a folder of its own.

Dimensions: N clips, B clips of a batch, S samples of audio, T frames, D width of a frame, E width of the space shared
with text, L tokens, C classes. What a folder adds to these stands in its docstring.
"""
