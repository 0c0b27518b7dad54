"""The composition root: builds gate, audit and lanes, serves until told to stop, reloads."""
