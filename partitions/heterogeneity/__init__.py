"""How unlike sites are, before anything is trained: sizes, people, intensities, distances."""
