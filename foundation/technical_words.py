"""What people in a call are not to read in an error: addresses, hosts, paths, codes."""

from __future__ import annotations

import re
from typing import Final

TECHNICAL: Final = re.compile(
    r"""
      \w+://                              # URLs
    | \b\d{1,3}(\.\d{1,3}){3}\b           # IPv4
    | [0-9a-f]{0,4}:[0-9a-f]{0,4}:        # IPv6
    | \b([\w-]+\.)+[^\W\d_]{2,}\b        # names of hosts and files
    | (^|[\s'"(=])[./~]*/\w              # paths
    | \b[A-Z]+_[A-Z_]+\b                  # variables
    | \blocalhost\b | :\d{2,5}\b | \bHTTP[ ]\d{3}\b | \b(exit[ ])?code\b | \bsignal[ ]\d | \berrno\b | \n
    """,
    re.IGNORECASE | re.VERBOSE,
)
