"""The list of all runs, at the side of every tab, and the comparison of those that are ticked in it."""
