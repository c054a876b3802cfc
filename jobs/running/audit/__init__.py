"""The leakage audit: train models of its own on halves of a site's patients, and attack them.

A finished run keeps no updates, and nobody knows what its models would be without a patient. The
audit therefore repeats a run's training at one site, under each mechanism, and does to the results
what a curious server would do. It works on scans, so it runs where they are: at a site, or over a
simulated federation.
"""
