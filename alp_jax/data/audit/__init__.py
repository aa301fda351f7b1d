"""Which training clips are evaluation clips: by recording, by sound, by near-duplicate sound, by caption.

Dimension letters: N clips of a block, E evaluation clips, M values of which a clip has several, C indexed clips,
P pairs.
"""
