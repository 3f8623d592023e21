"""Every option of every command, with valid and broken values."""
