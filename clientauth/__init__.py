"""Registration, Basic and Bearer authentication, as the job service and the SFU both speak it.

job-service.md 2 and rtcd.md 1.5 describe the same machinery with the same texts; it is written once here.
"""
