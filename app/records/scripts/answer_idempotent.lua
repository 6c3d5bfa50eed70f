#!lua
-- Keep what a request made, where the script that made it did not. ARGV: tenant, and the claim as JSON.
-- Returns 1, or 0 when the claim has gone to another request.
local claim = cjson.decode(ARGV[2])
if not may_answer(ARGV[1], claim) then return 0 end
keep_answer(ARGV[1], claim)
return 1
