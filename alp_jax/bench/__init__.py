"""What costs what on this machine: the step, the loss, the loader, the index, and damage on purpose."""
