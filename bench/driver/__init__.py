"""The benchmark driver: ours and the peers in turn, in front of one origin, under one load generator."""
