"""`offloader doctor`: looks at an installation step by step, and says what to do about what it finds.

Imports go one way: `finding` ← `step` ← each step's module ← `steps` (the list) ← `examination` ← `report`.
"""
