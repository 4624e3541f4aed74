"""Files: written whole, locked, hashed, and read within limits."""
