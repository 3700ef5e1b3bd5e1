"""Joins a Mattermost call as a native WebRTC peer: used by both jobs and by the test bots.

Above this package there are participants, tracks, encoded frames and call state only; nothing there
names SDP, msid or a plugin action.
"""
