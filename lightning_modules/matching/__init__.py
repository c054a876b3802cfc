"""Permutation-aligned averaging: match channels of networks, then average."""
