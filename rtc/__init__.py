"""What both ends of a call need, written once: ICE, DTLS, SRTP, SCTP, RTP and RTCP, SDP.

This package is the fence round OpenSSL and libsrtp: nothing else calls them. It knows no plugin, no call and
no job.
"""
