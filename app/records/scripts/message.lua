#!lua flags=allow-oom
-- Append a message to the events of a job that is held.
-- ARGV: tenant, job id, fence, level, message, data as JSON. Returns 'held' or 'lost'.
if not holds(ARGV[1], ARGV[2], ARGV[3]) then return 'lost' end
append_message(ARGV[1], ARGV[2], ARGV[4], ARGV[5], ARGV[6])
return 'held'
