"""What `verify` compares a certificate with: its own files, locks and suite, the models."""
