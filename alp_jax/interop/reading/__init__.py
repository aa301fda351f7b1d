"""Opens other toolboxes' checkpoints, with checks and without running what they hold."""
