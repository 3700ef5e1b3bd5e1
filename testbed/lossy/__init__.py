"""What the call client makes of bad networks: real sockets, real media, loss, jitter and black-outs.

Publishers send beeping voices and a flashing screen to the bundled SFU; listeners receive through a proxy
of their own and are judged by what they hear and see.
"""
