"""How the program meets the machine: errors, entries of commands, files, locks, folders, devices."""
