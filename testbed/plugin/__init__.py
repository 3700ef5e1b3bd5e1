"""A stand-in for Mattermost with the Calls plugin: everything that jobs, bots and the page see of it.

It drives the SFU only through rtcd's WebSocket protocol and the job service only through its HTTP API, so
that each of them can be replaced by the original. Section numbers in docstrings are those of the wire
contract calls-plugin.md.
"""
