"""How far the translations of a group of patients, taken together, are from their targets."""
