"""The loop: propose, run, record; budgets, branches, sessions."""
