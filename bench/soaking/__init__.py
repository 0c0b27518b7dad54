"""What the soak is made of: its network, the servers on its internet, the proxy, the traffic, samples, verdict."""
