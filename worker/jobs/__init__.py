"""Jobs from the worker's side: claim, lease, plan, run."""
