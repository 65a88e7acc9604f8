"""Nion Swift's instrument as this package's protocols; the one place in the core that imports nion."""
