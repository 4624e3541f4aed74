"""What all methods share: contract, data order, budget, state, trajectory, rollouts, anchors."""
