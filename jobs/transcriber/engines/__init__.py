"""Speech engines behind one port (`base.SpeechEngine`); model libraries appear nowhere else."""
