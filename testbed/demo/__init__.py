"""The demo: one real call on this machine, recorded, transcribed, captioned, and judged by content."""
