"""Long calls that are really recorded, and what is found in them afterwards."""
