"""What the gradient methods share: TRL's trainers, advantages, losses of our own loops."""
