"""Starts runs: on this machine, under SLURM, on GKE and on TPU VMs. Arguments are lists, never lines for a shell."""
