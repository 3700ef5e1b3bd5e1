"""What both ends of a call need, written once: ICE, DTLS, SRTP, SCTP, RTP and RTCP, SDP.

This package is the fence round aiortc and aioice: nothing else imports them. It knows no plugin, no
call and no job.
"""
