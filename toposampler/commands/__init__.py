"""Commands a user runs, one module each: `main(arguments)` returns the exit code."""
