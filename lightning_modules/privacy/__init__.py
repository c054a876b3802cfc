"""Differential privacy without a federation: clipping, noise, the accountant and the ledger."""
