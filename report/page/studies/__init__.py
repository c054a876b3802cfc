"""Pages over several seeds: a study, its levels, and the matching study."""
