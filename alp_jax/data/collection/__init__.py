"""Several corpora as one data set: each built on its own, then merged and audited.

No names here carry dimension letters.
"""
