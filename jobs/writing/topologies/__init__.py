"""Who sends what to whom: a star around the server, a ring of sites, or a swarm."""
