"""What a run would need on devices that are not here: its step is compiled for them and never executed.

Suffixes of names in ``layers.py`` give the axes: B clips, T frames, F mel bins, D features of a frame.
"""
