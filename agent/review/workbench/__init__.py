"""The workbench: the review's pages, and one on which experiments are run by hand."""
