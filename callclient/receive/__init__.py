"""From RTP packets of one SSRC to encoded frames in order, each at its place in time."""
