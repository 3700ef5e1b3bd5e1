"""Packets from one publisher to many receivers, on bytes: nothing is decoded, nothing waits."""
