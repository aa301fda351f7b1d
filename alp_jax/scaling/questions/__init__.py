"""What a sweep is for: questions that fitted laws answer, each with an interval or the statement that they cannot.

Letters of dimensions are those of ``laws``; Z numbers the model sizes of ``budget``.
"""
