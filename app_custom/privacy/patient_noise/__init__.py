"""Patient-level differential privacy: what a site demands, and what its rounds spend."""
