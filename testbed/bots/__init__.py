"""Bots that join a call as people do: WebSocket, WebRTC, real Opus and VP8, paced by the clock.

Each is a `callclient.CallClient`; what they do is a `testbed.scenario.Plan`; what they really did is
written as truth (`testbed.truth`).
"""
