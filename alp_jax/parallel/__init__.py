"""The mesh and the rules that place every array on it, and what processes say to each other.

Letters at the end of a name are the dimensions of an array, in order: B rows of a batch, G parts of them, N numbers.
"""
