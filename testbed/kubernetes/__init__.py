"""A double of the Kubernetes API, for the tests of the kubernetes backend; see README.md."""
