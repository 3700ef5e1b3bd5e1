"""The media side spread over processes: calls go to workers, the port and the control side stay."""
