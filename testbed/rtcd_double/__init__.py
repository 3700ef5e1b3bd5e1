"""An SFU that behaves as the original rtcd does, its defects included: what clients have to survive.

It shares nothing with `sfu` but the control plane's HTTP and framing, and writes its descriptions itself.
`script.Script` says what it does; its defaults are what the original always does.
"""
