"""The files that are published: WebVTT for the player, plain text for people. Pure functions."""
