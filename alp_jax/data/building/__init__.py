"""Clips to shards: the plan, the tasks, the processes that carry them out, and the account of every clip."""
