"""Jobs as batch/v1 Jobs of a Kubernetes cluster; docs/kubernetes.md tells admins how."""
