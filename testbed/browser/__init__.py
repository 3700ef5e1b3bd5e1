"""Chromium as a participant: started, driven over the DevTools protocol, asked what it hears and sees."""
