"""A cohort of brain MR volumes computed from an anatomical atlas, for demonstrations and tests.

Nothing here was acquired: see ``docs/computed-cohort.md`` for what is computed, from what, and what
it must not be used for.
"""
