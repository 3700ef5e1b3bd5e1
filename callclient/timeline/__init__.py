"""When was it said: RTP timestamps and arrival times to the host's monotonic clock. Sans-IO."""
