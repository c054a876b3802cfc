"""What a page shows as files of their own: tables, figures and a PDF.

The page is the only source, so that whatever it shows is written, also what later sections add.
"""
