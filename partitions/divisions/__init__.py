"""Forming hospitals: patients of one or several site folders become the patients of other sites.

A rule (one file in ``rules/``) is a pure function of the patients, its settings and a seed. What it
returns is written by ``folders``: manifests alone, which name the scans where they are.
"""
