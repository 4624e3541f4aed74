"""The HTML report: figures, flips, maps."""
