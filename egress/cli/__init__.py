"""The command line: parse, call, print. The only place that writes to standard output."""
