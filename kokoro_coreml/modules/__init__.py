"""The network rewritten to trace: one file per upstream class, upstream's attribute names."""
