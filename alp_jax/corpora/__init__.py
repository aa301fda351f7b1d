"""Published corpora and audio folders as streams of clips. No names here carry dimension letters."""
