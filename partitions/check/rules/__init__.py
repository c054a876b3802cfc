"""The rules, by what they look at. Every module holds ``RULES``; a new rule is one record there."""
