"""Models of how structure makes property, and the functions that choose with them."""
