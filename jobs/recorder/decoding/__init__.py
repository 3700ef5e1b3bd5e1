"""Participants' video and pictures, decoded in a process that can do nothing else (docs/adr/0017).

`decoder.Decoder` is what the recorder has of it; `child` is the program of the process.
"""
