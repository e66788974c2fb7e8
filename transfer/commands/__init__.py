"""The commands of `kuzushiji-transfer`, one module each."""
