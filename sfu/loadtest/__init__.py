"""`sfu loadtest`: simulated participants for any SFU that speaks rtcd's protocol.

Each participant is a real peer (ICE, DTLS, SRTP, data channel) that reads and decrypts every packet. The tool
plays the plugin's part towards the SFU and the clients' part towards its media port.
"""
