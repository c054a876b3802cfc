"""Encrypted averaging: a site's filters, the server's aggregator, and the kits' keys."""
