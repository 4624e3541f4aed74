"""What a model folder holds, checked before any library reads it."""
