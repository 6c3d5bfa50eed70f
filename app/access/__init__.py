"""Who may do what, and how much of it: keys, scopes, tenants, limits, audit and usage."""
