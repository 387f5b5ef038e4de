"""Ways in which a person is asked. A channel shows masked content only."""
