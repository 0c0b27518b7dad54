"""What the tests of a lane are made of: a proxy in a thread, recorded origins, clients that speak raw bytes."""
