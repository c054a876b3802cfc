"""Who may take part: the project, its startup kits, and a proof of concept on one machine."""
