"""Clips to shards: the plan, the tasks, the processes that carry them out, and the account of every clip.

Dimension letters: N clips (rows of a plan or index), n some of those.
"""
