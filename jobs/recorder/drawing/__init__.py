"""Pillow drawing of tiles, footer and banners; no media, no threads."""
