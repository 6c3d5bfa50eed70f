"""What keeps the service in order by itself."""
