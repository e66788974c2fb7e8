"""The trained models as files for other programs, and the web pages as plain files that need no
server."""
