"""A local page on which one draws a disconnected data set and watches systems train on it, in this process."""
