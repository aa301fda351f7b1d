"""Questions about a sweep that fitted laws answer, each with an interval or with the statement that they cannot.

Letters of dimensions are those of ``laws``, and Z the model sizes that ``budget`` tries.
"""
