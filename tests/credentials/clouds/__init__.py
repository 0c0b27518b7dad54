"""Stand-ins for the services that providers ask: real HTTP servers on loopback that check what they get."""
