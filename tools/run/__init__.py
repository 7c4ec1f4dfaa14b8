"""What runs on a host: agent, dataplane, up."""
