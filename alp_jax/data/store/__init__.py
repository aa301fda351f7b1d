"""A data set on disk: shards of records, the index table, and how both are opened."""
