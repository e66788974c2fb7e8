"""How the program meets the machine: errors, commands, files, locks, folders, devices."""
