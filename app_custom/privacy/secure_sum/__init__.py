"""Secure aggregation by pairwise masks: keys, rounds, and the filters and aggregator of sums."""
