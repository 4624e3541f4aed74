"""How items become prompts and token ids, and which part of a response is the answer."""
