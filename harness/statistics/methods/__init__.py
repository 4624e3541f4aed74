"""Methods against each other: over seeds, in pairs, along trajectories and over several targets."""
