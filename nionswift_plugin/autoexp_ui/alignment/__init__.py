"""The Beam Alignment panel: the bright-field disk is centred, by controls of which nobody knows how they move it."""
