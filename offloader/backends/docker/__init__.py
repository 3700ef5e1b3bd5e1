"""Jobs as containers of a Docker Engine, through the docker SDK; imported only when it is chosen."""
