"""What runs a sweep's jobs (this machine, Slurm, Ray), and where each of them is now."""
