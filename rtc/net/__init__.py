"""Sockets under the ICE agent: UDP, TCP flows (RFC 4571), a client's own ones and a server's shared port."""
