"""The standardized table: rows, columns, notes, and its text formats."""
