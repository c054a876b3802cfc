"""Computed heads in Hounsfield units, their projections, and the tasks made of them."""
