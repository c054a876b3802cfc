"""Read the files of a run folder and check that they agree."""
