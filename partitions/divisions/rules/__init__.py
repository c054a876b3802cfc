"""Rules of division: one file per rule, each with one ``RULE`` (see ``interface``)."""
