"""What a manuscript needs of a study: methods, limitations, references and a checklist.

Every sentence is made from the run's files; what they do not say is left to the author.
"""
