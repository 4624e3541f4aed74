"""suite -> plan -> train -> evaluate -> drift, divergence -> compare -> gate -> report."""
