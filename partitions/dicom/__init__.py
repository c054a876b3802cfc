"""DICOM series: what lies in a folder, which slices are one volume, its geometry and its values.

Nothing here trusts a file's name, its number or its thickness: the positions in the headers decide.
"""
