"""Jobs from the gateway's side: plan, submit, wait, sweep."""
