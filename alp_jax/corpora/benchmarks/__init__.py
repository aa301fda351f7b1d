"""Published evaluation sets with their official splits, one file each; nothing here draws a split."""
