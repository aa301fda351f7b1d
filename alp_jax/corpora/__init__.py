"""Published corpora and audio folders as streams of clips."""
