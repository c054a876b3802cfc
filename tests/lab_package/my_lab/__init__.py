"""A lab's own package, as a test installs it; nothing in it knows FedI2I."""
