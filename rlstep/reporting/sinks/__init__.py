"""Where records go: one file each. Packages beyond rlstep's own are extras."""
