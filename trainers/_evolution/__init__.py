"""What the evolution strategies share: noise, populations, their decoding, the update."""
