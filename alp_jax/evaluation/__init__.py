"""What a frozen encoder is worth: a suite of evaluators, each a kind of task in a folder of its own.

Dimensions: N clips, M captions or other texts, B clips of a batch, S samples of audio, T frames, D width of a frame,
E width of the space shared with text, L tokens, C classes. A lower-case letter counts a part of what its capital does,
and a digit is a size. Letters that a folder adds, or uses for something else, are listed in its docstring.
"""
