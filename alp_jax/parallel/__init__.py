"""The mesh, the rules that place every array on it, and communication between processes.

The letters at the end of a name are the array's dimensions, in order: B rows of a batch, G parts of them, N numbers.
"""
