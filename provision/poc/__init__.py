"""A proof of concept: the real project on one machine, with processes, TLS, console and all."""
