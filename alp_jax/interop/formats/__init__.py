"""Names, shapes and settings of other toolboxes' files."""
