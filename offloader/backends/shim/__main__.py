"""`python -I -S <this directory> OPTIONS-AS-JSON command…`, with the job's environment."""

import os
import sys

# Isolated and without `site`, only the standard library can be imported. It stays first; this package is
# found below the directory that holds `offloader`.
sys.path[0:1] = []
sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__)))))

from offloader.backends.shim.shim import main  # noqa: E402 - not to be found before

if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # nothing is left to tidy up, and whoever waits for this process waits less
