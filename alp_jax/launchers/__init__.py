"""Starts runs: on this machine, under SLURM, on Google Kubernetes Engine (GKE) and on virtual machines with TPUs.

Arguments are passed on as lists, never as a line for a shell; where a tool insists on a line, every argument is quoted.
"""
