"""The figures of one row of the table, from the scorecards of its seeds."""
