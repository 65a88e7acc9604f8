"""Named on import only."""

make_grid = None
