"""Text for people: escaping, rounding, tables. No file access."""
