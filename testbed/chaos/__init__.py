"""Kills jobs at random moments and compares what is published then with what was sent.

python -m testbed.chaos --kills 50 --seed 1 --report chaos.json
python -m testbed.chaos --job transcriber --kills 30 --seed 1 --report chaos.json
"""
