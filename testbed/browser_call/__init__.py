"""A call of real browsers that is recorded and transcribed by the whole product, and what is known of it."""
