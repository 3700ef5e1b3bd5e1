"""The published schemas that the double holds objects against."""
