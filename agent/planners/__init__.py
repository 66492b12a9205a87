"""Planners: one file each; `make_planner` turns the command line's word into one."""
