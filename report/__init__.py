"""Read the files of one run and write its results table, figures and report page.

The package reads file formats only; it imports no other package of this project.
"""
