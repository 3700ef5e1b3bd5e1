"""What the bots say: short clips with their text and word times, bundled or brought along.

The bundled clips are synthetic (espeak-ng) and use only the 97 words and the voices that the bundled
speech model knows. `load_clips` reads them, or any folder of the same form.
"""
