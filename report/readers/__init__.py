"""A blinded reader study: people judge a run's pictures without knowing what made them."""
