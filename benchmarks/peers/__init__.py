"""The same campaigns by this package and by its peers, on the same data and candidates, side by side."""
