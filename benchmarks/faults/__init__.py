"""The whole service under faults and crowds: what is lost, what it costs others, and how soon all is as before."""
