"""The jobs. Whatever they are made of, they ask nobody on the network but whom they are told to."""

import os

# onnxruntime (voice activity) reports each session to its maker and keeps an identifier of the machine; it
# looks here once, before it is used.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# What a model's folder lacks is missing, not fetched.
os.environ["HF_HUB_OFFLINE"] = "1"
