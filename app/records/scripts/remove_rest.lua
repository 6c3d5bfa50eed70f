#!lua flags=allow-oom
-- Remove what a tenant that is being deleted still owns, a bounded part of the store at a time.
-- ARGV: tenant, the cursor of the part before or '0'. Contexts whose files may still be there are left, and all is while
-- there are contexts and jobs, which other rows name: a program that reads their format deletes them.
-- Returns the next cursor, '0' at the end, and how much was left.
local tenant, left = ARGV[1], 0
if redis.call('HGET', shared('tenant', tenant), 'status') ~= 'deleting' then return {'0', 1} end
if redis.call('EXISTS', owned(tenant, 'contexts'), owned(tenant, 'jobs')) > 0 then return {'0', 1} end
local found = redis.call('SCAN', ARGV[2], 'MATCH', owned(tenant, '*'), 'COUNT', 1000)
for _, key in ipairs(found[2]) do
  if string.find(key, owned(tenant, 'deleting', ''), 1, true) == 1
    or string.find(key, owned(tenant, 'files', ''), 1, true) == 1 then left = left + 1
  else redis.call('UNLINK', key) end
end
return {found[1], left}
