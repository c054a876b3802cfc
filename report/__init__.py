"""Read the files of one run and write its results table, figures and report page.

The package reads file formats only; of this project it imports ``fedi2i`` alone.
"""
