"""The transcriber: one capture per voice, live captions while people speak, WebVTT and text afterwards.

Data flows one way: `RemoteTrack` → capture (the truth, on disk) and ear (decode, voice activity) →
captions and transcript backlog → speech engine → caption messages and cues → files → upload → post.
"""
