"""What the researcher can do: one file a tool."""
