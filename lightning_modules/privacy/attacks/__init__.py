"""Attacks on what a site sends: pure functions of models, updates and images, without NVFlare.

They serve the leakage audit. An attack that fails here proves no safety; one that succeeds shows a
leak. Each module says what its attacker is assumed to know.
"""
