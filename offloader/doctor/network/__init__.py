"""The way from here to Mattermost, its Calls plugin and its SFU, looked at step by step.

Imports go one way: `stun` ← `media_probe`, `rtcd_wire` ← `rtcd`; `way` ← each step's module ← `steps`
(the list). Nothing that is sent joins a call of people, posts, or leaves anything in a channel.
"""
