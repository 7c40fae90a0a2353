"""The one I/O kit that every service uses."""
