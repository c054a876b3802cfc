"""Arms with hostile sites, which are trained in one process and never in a job."""
