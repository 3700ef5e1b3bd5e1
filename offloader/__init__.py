"""The job service: admits jobs, starts them on a backend, watches them, answers for them over HTTP.

Layers, each importing only what stands to its right: `cli`, `app` → `api` → `service`, `supervisor` →
`backends`, `store` → `models`, `errors`. The jobs themselves are met only in `docs/job-contract.md`.
"""
