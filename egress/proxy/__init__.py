"""The front: the listener, and the lanes `tunnel` and `http`; the rest is handed over. Knows no mitmproxy."""
