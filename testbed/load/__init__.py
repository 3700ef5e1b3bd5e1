"""Many jobs at once: jobs are simulated; the job service, its stores and its API are the real ones."""
