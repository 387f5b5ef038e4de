"""The policy decision point: rules and facts in, a decision out. Pure."""
