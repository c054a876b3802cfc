"""What several readers share: walking folders, names, tables, stacks of pictures."""
