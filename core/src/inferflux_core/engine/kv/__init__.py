"""Keys and values: which sequences share them, and where they are kept when nobody computes on them."""
