"""Search of audio by captions and of captions by audio.

Dimensions: A clips, M captions, K distinct texts, Q queries, N candidates of a query, R right ones among them, P pairs
of a query and one of its own candidates, V words.
"""
