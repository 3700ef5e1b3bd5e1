"""The HTTP door: routes, bodies and codes of job-service.md 1; everything behind it knows no HTTP."""
