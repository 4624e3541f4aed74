"""Log-likelihoods of many requests: shared prefixes as a trie, computed in packed passes."""
